//! Every example runs to its end, and says what it is about.
//!
//! Cargo builds the examples before it runs a test; they lie in `examples/` beside the tests' own folder.

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

/// What each example must have said.
const EXAMPLES: [(&str, &str); 6] = [
    ("two_nodes", "transaction"),
    ("own_chain", "Ann has 1 page"),
    ("own_protocol", "hello, Bob"),
    ("watch_state", "block 2: Bob has 12"),
    ("circuit", "and for a tab at /ip4/127.0.0.1/tcp/"),
    ("metrics", "1 of 1 connections open"),
];

fn run(name: &str) -> Output {
    let test = env::current_exe().expect("it runs");
    let target = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = target.join("examples").join(name);
    let program = program.with_extension(env::consts::EXE_EXTENSION);
    let mut command = Command::new(&program);
    // `metrics` takes the number of seconds.
    command.args((name == "metrics").then_some("1"));
    let output = command.output();
    output.unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

#[test]
fn every_example_does_what_it_says() {
    for (name, said) in EXAMPLES {
        let output = run(name);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {text}{errors}");
        assert!(text.contains(said), "{name}: {text}");
    }
}

#[test]
fn every_example_has_its_line_in_the_readme() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let readme = fs::read_to_string(folder.join("README.md")).expect("a page");
    let mut found = 0;
    for file in fs::read_dir(folder).expect("a folder") {
        let file = file.expect("a file");
        let name = file.file_name().to_string_lossy().into_owned();
        // One in several files is a folder; one with a Cargo.toml of its own is built elsewhere.
        let main = if file.path().join("main.rs").is_file() {
            format!("{name}/main.rs")
        } else {
            name
        };
        let stem = main.strip_suffix("/main.rs").or(main.strip_suffix(".rs"));
        if let Some(stem) = stem {
            assert!(readme.contains(&format!("[{stem}]({main})")), "{main}");
            assert!(EXAMPLES.iter().any(|(known, _)| *known == stem), "{main}");
            found += 1;
        }
    }
    assert_eq!(found, EXAMPLES.len());
}
