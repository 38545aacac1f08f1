//! What the configuration says about launching, with the files that it names read and checked, before anything is connected to.

use super::Launcher;
use super::kubernetes::{Jobs, KubernetesLauncher, read_namespace_objects};
use super::process::{ProcessLauncher, Surroundings};
use anyhow::Context;
use kube::core::DynamicObject;
use roadstead_backend::config::{KubernetesConfig, LauncherConfig, WorkerConfig, extra_roots_file, search_path};
use slog::Logger;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub enum Plan {
    Process(Surroundings),
    Kubernetes { kubernetes: Box<KubernetesConfig>, jobs: Box<Jobs>, objects: Vec<DynamicObject> },
}

impl Plan {
    /// Fails by the name of the variable that can't be used.
    pub fn of(config: &WorkerConfig) -> anyhow::Result<Self> {
        match &config.launcher {
            LauncherConfig::Process { executor_path, workspace_root } => {
                if !is_program(executor_path) {
                    anyhow::bail!("EXECUTOR_PATH: there is no program at {}", executor_path.display());
                }
                Ok(Self::Process(Surroundings {
                    executor: std::path::absolute(executor_path).context("EXECUTOR_PATH can't be made absolute")?,
                    api_url: config.api_url.clone(),
                    workspace_root: std::path::absolute(workspace_root)
                        .context("WORKSPACE_ROOT can't be made absolute")?,
                    search_path: search_path(),
                    certificates: extra_roots_file(),
                }))
            }
            LauncherConfig::Kubernetes(kubernetes) => {
                let template = read("JOB_TEMPLATE_FILE", kubernetes.job_template_file.as_ref())?;
                let (start_timeout, grace) = (config.launch.start_timeout, config.executions.kill_grace);
                let jobs = Jobs::new(kubernetes, &config.api_url, start_timeout, grace, template.as_deref())
                    .context("JOB_TEMPLATE_FILE can't be used")?;
                let objects = read("NAMESPACE_OBJECTS_FILE", kubernetes.namespace_objects_file.as_ref())?;
                let objects = read_namespace_objects(&objects.unwrap_or_default())
                    .context("NAMESPACE_OBJECTS_FILE can't be used")?;
                Ok(Self::Kubernetes { kubernetes: kubernetes.clone(), jobs: Box::new(jobs), objects })
            }
        }
    }

    pub async fn launcher(self, config: &WorkerConfig, log: &Logger) -> anyhow::Result<Arc<dyn Launcher>> {
        match self {
            Self::Process(surroundings) => {
                let cap = config.executions.max_concurrent_jobs as usize;
                Ok(Arc::new(ProcessLauncher::new(surroundings, cap, log.clone())))
            }
            Self::Kubernetes { kubernetes, jobs, objects } => {
                let client = kube::Client::try_default().await.context("this program has no access to a cluster")?;
                let (interval, grace) = (config.reconcile_interval, config.executions.kill_grace);
                let log = log.clone();
                Ok(Arc::new(KubernetesLauncher::new(client, &kubernetes, *jobs, objects, interval, grace, log)))
            }
        }
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn read(name: &str, file: Option<&PathBuf>) -> anyhow::Result<Option<String>> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file).with_context(|| format!("{name} can't be read: {}", file.display()))
    };
    file.map(read).transpose()
}
