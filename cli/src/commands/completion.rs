//! `roadstead completion`: a shell's completion script.

use crate::args::Cli;
use crate::failure::Failure;
use crate::output::Output;
use clap::CommandFactory;

pub fn run(shell: clap_complete::Shell, output: Output) -> Result<(), Failure> {
    // Into memory first: the generator panics when its writer fails, and standard output may be closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "roadstead", &mut script);
    output.raw(&script)
}
