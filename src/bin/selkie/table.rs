//! A table of text for people: columns as wide as their longest cell.

/// Heads over rows; where there are no rows, the sentence that says so.
pub(crate) fn table<const N: usize>(
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    none: &str,
) -> String {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return none.to_owned();
    }
    let mut widths = heads.map(letters);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = letters(cell).max(*width);
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows
        .iter()
        .map(|row| line(row.each_ref().map(String::as_str)));
    let lines: Vec<_> = std::iter::once(line(heads)).chain(rows).collect();
    lines.join("\n")
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_heads() {
        let rows = [["é", "long cell"], ["bb", ""]].map(|row| row.map(str::to_owned));
        let shown = table(["A", "B"], rows.into_iter(), "none");
        assert_eq!(shown, "A   B\né   long cell\nbb");
        assert_eq!(table(["A"], std::iter::empty(), "none"), "none");
    }
}
