//! Whether the cluster that attempts run in would take a definition: found out when it is stored, submitted or retried, not when its turn has come.
//!
//! Under the process launcher, which knows neither images nor bounds, everything is.

use crate::workflow_cache::CachedVersion;
use roadstead_backend::config::KubernetesConfig;
use roadstead_domain::decode::FieldError;
use roadstead_domain::workflow::quantity::{excess, zeros};
use roadstead_domain::workflow::{Resources, Workflow};

/// What stands against a definition that was sent, at `at` of the body.
pub fn against_sent(workflow: &Workflow, at: &str, kubernetes: Option<&KubernetesConfig>) -> Vec<FieldError> {
    let placed = |(field, detail)| FieldError { pointer: format!("{at}/{field}"), detail };
    objections(workflow.image.is_some(), &workflow.resources, kubernetes).into_iter().map(placed).collect()
}

/// What stands against a stored one, which is known by its name.
pub fn against_stored(version: &CachedVersion, kubernetes: Option<&KubernetesConfig>) -> Vec<FieldError> {
    let CachedVersion { name, version: number, has_image, resources, .. } = version;
    let told = |(field, detail)| FieldError {
        pointer: "/workflow".to_owned(),
        detail: format!("the definition of `{name}@{number}` can't run here: its {field} {detail}"),
    };
    objections(*has_image, resources, kubernetes).into_iter().map(told).collect()
}

/// Fields of the definition, as in `resources/memory`, and what is wrong with each.
fn objections(has_image: bool, resources: &Resources, kubernetes: Option<&KubernetesConfig>) -> Vec<(String, String)> {
    let Some(kubernetes) = kubernetes else { return Vec::new() };
    let mut objections = Vec::new();
    if !has_image && kubernetes.workflow_image.is_none() {
        let detail = "is missing: workflows run in containers here, and there is no image for those that name none";
        objections.push(("image".to_owned(), detail.to_owned()));
    }
    // Only of what was stored when it was still accepted.
    let none = zeros(resources).into_iter();
    objections.extend(none.map(|name| (format!("resources/{name}"), "is zero, which is no limit".to_owned())));
    let more = excess(resources, &kubernetes.max_resources);
    objections.extend(more.into_iter().map(|(name, most)| {
        let detail = format!("is more than an attempt may have here, which is {most}");
        (format!("resources/{name}"), detail)
    }));
    objections
}

#[cfg(test)]
mod tests {
    use crate::envelope::envelop;
    use crate::server;
    use crate::state::{App, DEV_TENANT};
    use actix_web::middleware::from_fn;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use actix_web::web;
    use roadstead_backend::config::{ApiConfig, Reader};
    use roadstead_backend::store::{database, tenants, workflows};
    use serde_json::{Value, json};
    use std::sync::Arc;

    async fn api(more: &[(&str, &str)]) -> web::Data<App> {
        api_over(&roadstead_testkit::servers().await.new_database().await, more).await
    }

    async fn api_over(database_url: &str, more: &[(&str, &str)]) -> web::Data<App> {
        let variables = [
            ("API_HOST", "127.0.0.1"),
            ("DEV_MODE", "true"),
            ("DATABASE_URL", database_url),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("S3_ENDPOINT", "http://127.0.0.1:1"),
            ("S3_REGION", "us-east-1"),
            ("S3_ACCESS_KEY_ID", "nobody"),
            ("S3_SECRET_ACCESS_KEY", "nothing"),
            ("META_BUCKET_NAME", "meta"),
            ("CONTENT_BUCKET_NAME", "content"),
        ];
        let variables = variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut reader = Reader::new(variables);
        let config = ApiConfig::read(&mut reader);
        let config = reader.finish(config).unwrap();
        database::migrate(&config.database).await.unwrap();
        // Told of its cluster only now, so that it asks none for keys.
        let elsewhere = ApiConfig { kubernetes: None, ..config.clone() };
        let mut app = App::new(elsewhere, slog::Logger::root(slog::Discard, slog::o!()), None).unwrap();
        app.config = Arc::new(config);
        tenants::set(&mut app.database.get().await.unwrap(), DEV_TENANT, tenants::Change::default()).await.unwrap();
        app.note_migrated();
        web::Data::new(app)
    }

    macro_rules! serve {
        ($app:expr) => {
            init_service(actix_web::App::new().app_data($app).wrap(from_fn(envelop)).configure(server::routes)).await
        };
    }

    macro_rules! post {
        ($service:expr, $path:expr, $body:expr) => {
            ask!($service, TestRequest::post().uri($path).set_json($body))
        };
    }

    macro_rules! put {
        ($service:expr, $path:expr, $body:expr) => {
            ask!($service, TestRequest::put().uri($path).set_json($body))
        };
    }

    macro_rules! ask {
        ($service:expr, $request:expr) => {{
            let request = $request.to_request();
            let response = call_service(&$service, request).await;
            let status = response.status().as_u16();
            let body: Value = read_body_json(response).await;
            (status, body)
        }};
    }

    fn pointers(problem: &Value) -> Vec<&str> {
        assert_eq!(problem["type"], "https://roadstead.dev/problems/invalid-request", "{problem}");
        problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }

    fn definition(more: &Value) -> Value {
        let mut definition = json!({"steps": [{"id": "a", "command": ["true"]}]});
        definition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        definition
    }

    const CLUSTER: &[(&str, &str)] = &[("LAUNCHER", "kubernetes"), ("JOB_MAX_CPU", "2"), ("JOB_MAX_MEMORY", "1Gi")];

    const PERMISSIVE: &[(&str, &str)] = &[("LAUNCHER", "kubernetes"), ("WORKFLOW_IMAGE", "busybox")];

    #[actix_web::test]
    async fn a_definition_that_the_cluster_would_not_take_is_refused_when_it_is_submitted() {
        let service = serve!(api(CLUSTER).await);
        let much = json!({"resources": {"cpu": "2001m", "memory": "1Gi", "ephemeral_storage": "21Gi"}});
        let submission = json!({"spec": definition(&much)});
        let (status, problem) = post!(service, "/v1/executions", &submission);
        assert_eq!(status, 400);
        let places = ["/spec/image", "/spec/resources/cpu", "/spec/resources/ephemeral_storage"];
        assert_eq!(pointers(&problem), places);
        assert!(problem["errors"][1]["detail"].as_str().unwrap().ends_with("which is 2"), "{problem}");

        let good = json!({"spec": definition(&json!({"image": "python:3.12", "resources": {"cpu": "2000m", "memory": "1024Mi"}}))});
        let (status, _) = post!(service, "/v1/executions", &good);
        assert_eq!(status, 202);
        let batch = json!({"executions": [good, {"spec": definition(&json!({}))}]});
        let (status, problem) = post!(service, "/v1/executions/batch", &batch);
        assert_eq!((status, pointers(&problem)), (400, vec!["/executions/1/spec/image"]));
    }

    #[actix_web::test]
    async fn a_workflow_that_the_cluster_would_not_take_is_not_stored() {
        let service = serve!(api(CLUSTER).await);
        let much = definition(&json!({"resources": {"memory": "2G"}}));
        let (status, problem) = put!(service, "/v1/workflows/big", &much);
        assert_eq!((status, pointers(&problem)), (400, vec!["/image", "/resources/memory"]));
        assert!(problem["errors"][1]["detail"].as_str().unwrap().ends_with("which is 1Gi"), "{problem}");
        assert_eq!(ask!(service, TestRequest::get().uri("/v1/workflows/big")).0, 404);

        let good = definition(&json!({"image": "python:3.12", "resources": {"memory": "1Gi"}}));
        assert_eq!(put!(service, "/v1/workflows/big", &good).0, 201);
    }

    #[actix_web::test]
    async fn a_stored_workflow_that_the_cluster_would_not_take_any_more_is_refused_by_its_name() {
        let database_url = roadstead_testkit::servers().await.new_database().await;
        let before = serve!(api_over(&database_url, PERMISSIVE).await);
        let stored = definition(&json!({"resources": {"memory": "2G"}}));
        assert_eq!(put!(before, "/v1/workflows/big", &stored).0, 201);
        let service = serve!(api_over(&database_url, CLUSTER).await);
        for name in ["big", "big@1"] {
            let (status, problem) = post!(service, "/v1/executions", &json!({"workflow": name}));
            assert_eq!(status, 400);
            is_of_big(&problem);
        }
    }

    fn is_of_big(problem: &Value) {
        assert_eq!(pointers(problem), ["/workflow", "/workflow"]);
        let detail = |at: usize| problem["errors"][at]["detail"].as_str().unwrap();
        assert!(detail(0).starts_with("the definition of `big@1` can't run here: its image is missing"), "{problem}");
        assert!(
            detail(1).contains("its resources/memory is more than an attempt may have here, which is 1Gi"),
            "{problem}"
        );
    }

    #[actix_web::test]
    async fn what_ran_once_and_would_not_be_taken_any_more_is_not_retried() {
        let database_url = roadstead_testkit::servers().await.new_database().await;
        let before = serve!(api_over(&database_url, PERMISSIVE).await);
        let much = definition(&json!({"resources": {"memory": "2G"}}));
        assert_eq!(put!(before, "/v1/workflows/big", &much).0, 201);
        let mut ended = Vec::new();
        for submission in [json!({"spec": much}), json!({"workflow": "big"})] {
            let (_, execution) = post!(before, "/v1/executions", &submission);
            let path = format!("/v1/executions/{}", execution["id"].as_str().unwrap());
            assert_eq!(ask!(before, TestRequest::post().uri(&format!("{path}/cancel"))).0, 202);
            ended.push(format!("{path}/retry"));
        }
        let good = definition(&json!({"image": "python:3.12"}));
        assert_eq!(put!(before, "/v1/workflows/big", &good).0, 201);

        let service = serve!(api_over(&database_url, CLUSTER).await);
        let (status, problem) = ask!(service, TestRequest::post().uri(&ended[0]));
        assert_eq!((status, pointers(&problem)), (400, vec!["/spec/image", "/spec/resources/memory"]));
        let (status, problem) = ask!(service, TestRequest::post().uri(&ended[1]));
        assert_eq!(status, 400, "its own version is what would run again");
        is_of_big(&problem);
        let (_, page) = ask!(service, TestRequest::get().uri("/v1/executions"));
        assert_eq!(page["items"].as_array().unwrap().len(), 2);

        for retry in &ended {
            let (status, execution) = ask!(before, TestRequest::post().uri(retry));
            assert_eq!((status, execution["state"].as_str()), (202, Some("queued")), "{execution}");
            assert!(retry.contains(execution["retry_of"].as_str().unwrap()));
        }
    }

    #[actix_web::test]
    async fn a_stored_limit_of_zero_is_refused_for_what_it_is() {
        let app = api(&[CLUSTER, &[("WORKFLOW_IMAGE", "busybox")]].concat()).await;
        // Stored when it was still accepted.
        let stored = definition(&json!({"resources": {"cpu": "0", "memory": "512Mi"}})).to_string();
        workflows::put(&mut app.database.get().await.unwrap(), DEV_TENANT, "none", b"1", &stored, |_| true)
            .await
            .unwrap();
        let service = serve!(app);
        let (status, problem) = post!(service, "/v1/executions", &json!({"workflow": "none"}));
        assert_eq!((status, pointers(&problem)), (400, vec!["/workflow"]), "{problem}");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert_eq!(detail, "the definition of `none@1` can't run here: its resources/cpu is zero, which is no limit");
    }

    #[actix_web::test]
    async fn an_image_for_those_that_name_none_is_one() {
        let service = serve!(api(&[CLUSTER, &[("WORKFLOW_IMAGE", "busybox")]].concat()).await);
        let (status, _) = post!(service, "/v1/executions", &json!({"spec": definition(&json!({}))}));
        assert_eq!(status, 202);
    }

    #[actix_web::test]
    async fn the_process_launcher_takes_everything() {
        let service = serve!(api(&[("LAUNCHER", "process"), ("JOB_MAX_CPU", "2")]).await);
        let much = definition(&json!({"resources": {"cpu": "100", "memory": "100Ti"}}));
        assert_eq!(put!(service, "/v1/workflows/big", &much).0, 201);
        for submission in [json!({"spec": much}), json!({"workflow": "big"})] {
            let (status, execution) = post!(service, "/v1/executions", &submission);
            assert_eq!(status, 202);
            let path = format!("/v1/executions/{}", execution["id"].as_str().unwrap());
            assert_eq!(ask!(service, TestRequest::post().uri(&format!("{path}/cancel"))).0, 202);
            assert_eq!(ask!(service, TestRequest::post().uri(&format!("{path}/retry"))).0, 202);
        }
    }
}
