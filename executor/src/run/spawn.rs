//! The one place that makes a process: a step's own group, its own environment, and nothing else of this process's.

use super::plan::End;
use super::program;
use crate::workspace::Workspace;
use roadstead_domain::ids::AttemptId;
use roadstead_domain::workflow::Step;
use rustix::process::Pid;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// What all steps of the attempt get.
#[derive(Debug)]
pub struct Surroundings {
    pub attempt: AttemptId,
    pub workspace: Workspace,
    pub search_path: OsString,
    /// Of the submission.
    pub traceparent: Option<String>,
}

/// A step's main process, which leads its group, and the ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    pub pid: Pid,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

pub fn spawn(step: &Step, around: &Surroundings) -> Result<Spawned, End> {
    let Surroundings { attempt, workspace, search_path, traceparent } = around;
    let (program, arguments) = step
        .command
        .split_first()
        .ok_or_else(|| End::NotStarted { message: "the step has no command".into(), hopeless: true })?;
    let search_path = step.env.get("PATH").map_or(search_path.as_os_str(), |path| path.as_ref());
    let path = program::find(program, &workspace.work, search_path)?;

    let mut command = Command::new(&path);
    command
        .arg0(program)
        .args(arguments)
        .current_dir(&workspace.work)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env_clear()
        .env("PATH", search_path)
        .env("HOME", &workspace.work)
        .env("LANG", "C.UTF-8")
        // Where OpenTelemetry's SDKs look for the parent of what a process does (OpenTelemetry specification, Environment Variables as Context Propagation Carriers).
        .envs(traceparent.iter().map(|parent| ("TRACEPARENT", parent)))
        .envs(&step.env)
        .env("ROADSTEAD_INPUT", &workspace.input)
        .env("ROADSTEAD_RESULT", &workspace.result)
        .env("ROADSTEAD_ARTIFACTS", &workspace.artifacts)
        .env("ROADSTEAD_EXECUTION_ID", attempt.execution_id.to_string())
        .env("ROADSTEAD_ATTEMPT", attempt.attempt.to_string())
        .env("ROADSTEAD_STEP_ID", &step.id);

    let mut child = command.spawn().map_err(|error| program::refused(program, &path, &workspace.work, &error))?;
    // Not waited for through `child`: its group must outlive it until it was killed (see `kill`).
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a child has a pid");
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let stderr = child.stderr.take().expect("stderr was asked to be a pipe");
    Ok(Spawned { pid, stdout: stdout.into(), stderr: stderr.into() })
}
