//! A child of this process: the node at the other end, with a core of its own.
//!
//! It is this program again, started with `--child PART...`. It prints its address, and then a line of figures for each line
//! on its input; it ends with its input.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    process::{self, ChildStdout, Command, Stdio},
};

use selkie::Multiaddr;

/// The child as its parent sees it.
pub struct Child {
    process: process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts one; returns its address too.
    pub fn start(arguments: &[&str]) -> (Self, Multiaddr) {
        let mut process = Command::new(std::env::current_exe().expect("it runs"))
            .arg("--child")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let stdout = process.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines();
        let address = lines.next().expect("a line").expect("text");
        let address = address.parse().expect("an address");
        (Self { process, lines }, address)
    }

    /// Its figures.
    pub fn ask<const COUNT: usize>(&mut self) -> [f64; COUNT] {
        let mut stdin = self.process.stdin.as_ref().expect("piped");
        stdin.write_all(b"\n").expect("it listens");
        let line = self.lines.next().expect("a line").expect("text");
        let figures = line
            .split(' ')
            .map(|figure| figure.parse().expect("a number"));
        let figures: Vec<_> = figures.collect();
        figures.try_into().expect("so many figures")
    }

    pub fn end(mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// In the child: answers from a thread of its own.
pub fn answer(mut figures: impl FnMut() -> Vec<f64> + Send + 'static) {
    std::thread::spawn(move || {
        for _ in std::io::stdin().lines().map_while(Result::ok) {
            let figures: Vec<_> = figures().iter().map(f64::to_string).collect();
            println!("{}", figures.join(" "));
        }
        process::exit(0);
    });
}
