//! All that an image of the cluster tests holds: a step that runs where there is no shell, and shows the arguments it was given.

use std::{env, fs, io};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    println!("hello {}", arguments.join(" "));
    match env::var_os("ROADSTEAD_RESULT") {
        Some(result) => fs::write(result, format!("{arguments:?}")),
        None => Ok(()),
    }
}
