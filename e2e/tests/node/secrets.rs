//! User code is the adversary: it looks everywhere for credentials, and for what it might reach.

use crate::lab::{Lab, script};

const SEARCH: &str = r#"
say() { echo "FOUND: $*"; }
# The environment: nothing but what the contract names.
env | cut -d = -f 1 | grep -vE '^(ROADSTEAD_(INPUT|RESULT|ARTIFACTS|EXECUTION_ID|ATTEMPT|STEP_ID)|PATH|HOME|LANG|PWD|SHLVL|OLDPWD|_)$' | while read -r name; do say "variable $name"; done
# Tokens: JWTs begin with this.
for place in /roadstead /var /run /etc /tmp /workspace /home /root; do
  grep -rslE 'eyJ[A-Za-z0-9_-]{20,}' $place 2>/dev/null | while read -r file; do say "token in $file"; done
done
[ -e /var/run/secrets/kubernetes.io ] && say "a ServiceAccount's folder"
ls /var/run/secrets 2>/dev/null | while read -r name; do say "secret $name"; done
[ -e /roadstead/token ] && say "the attempt's token"
# Other processes.
for process in /proc/[0-9]*; do
  [ "${process#/proc/}" = $$ ] && continue
  tr '\0' '\n' < $process/cmdline 2>/dev/null | grep -iE 'eyJ|secret|password|rsk_' && say "arguments of $process"
  tr '\0' '\n' < $process/environ 2>/dev/null | grep -iE 'eyJ|secret|password|rsk_|AWS|S3_|DATABASE|REDIS' && say "environment of $process"
  [ -r $process/mem ] && head -c 1 $process/mem >/dev/null 2>&1 && say "memory of $process"
done
mount | grep -iE 'secret|token|serviceaccount' | while read -r line; do say "mount $line"; done
[ "$(id -u)" = 0 ] && say root
grep -q '^CapEff:	0000000000000000$' /proc/self/status || say "capabilities"
grep -q '^NoNewPrivs:	1$' /proc/self/status || say "new privileges"
grep -q '^Seccomp:	2$' /proc/self/status || say "no seccomp"
touch /etc/x 2>/dev/null && say "a writable root"
reaches() { nc -w 3 "$1" "$2" </dev/null >/dev/null 2>&1; }
reaches @KUBERNETES@ 443 && say "the cluster's API"
reaches 169.254.169.254 80 && say "the metadata address"
reaches roadstead-postgresql.@NAMESPACE@.svc 5432 && say PostgreSQL
reaches roadstead-redis.@NAMESPACE@.svc 6379 && say Redis
reaches roadstead-worker.@NAMESPACE@.svc 9090 && say "a worker"
nslookup roadstead-api.@NAMESPACE@.svc.cluster.local >/dev/null 2>&1 && echo "REACHED: DNS"
reaches roadstead-api.@NAMESPACE@.svc 8080 && echo "REACHED: API"
echo searched
"#;

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_search_for_credentials_finds_none_and_reaches_nothing() {
    let lab = Lab::new().await;
    let text = SEARCH.replace("@NAMESPACE@", &lab.namespace).replace("@KUBERNETES@", "kubernetes.default.svc");
    let id = lab.submit(script(&text)).await;
    let execution = lab.ended(&id).await;
    let log = lab.log(&id).await;
    assert_eq!(execution["state"], "succeeded", "{execution}\n{log}");
    let found: Vec<&str> = log.lines().filter(|line| line.starts_with("FOUND")).collect();
    assert!(found.is_empty(), "{found:#?}");
    for what in ["REACHED: DNS", "REACHED: API", "searched"] {
        assert!(log.contains(what), "{what} is missing, so this search says nothing: {log}");
    }
}
