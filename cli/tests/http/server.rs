//! A small HTTP server that answers from a closure and remembers what it was asked, and the program run against it.

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

pub const ID: &str = "0190b5a0-7000-7000-8000-000000000001";
pub const KEY: &str = "rs_test_key";

#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer; its pieces are sent one by one, and then the connection is closed.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub pieces: Vec<Bytes>,
}

pub fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Answer { status, headers: vec![("content-type", "application/json".to_owned())], pieces: vec![body.into()] }
}

pub fn problem(status: u16, detail: &str) -> Answer {
    let body = format!(r#"{{"type":"about:blank","status":{status},"detail":"{detail}","request_id":"req-1"}}"#);
    answer(status, body)
}

pub fn execution(state: &str) -> String {
    format!(
        r#"{{"id":"{ID}","workflow":"count","version":3,"state":"{state}","reason":null,"attempt":1,"max_attempts":4}}"#
    )
}

type Handler = dyn Fn(usize, &Asked) -> Answer + Send + Sync;

pub struct Server {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// The closure is given the number of the request, from 0, and the request.
    pub async fn start(handler: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        tokio::spawn(serve(listener, Arc::new(handler), asked.clone()));
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs the program against this server, with nothing on standard input.
    pub async fn run(&self, arguments: &[&str]) -> Ran {
        run(&self.url, arguments, b"").await
    }
}

async fn serve(listener: TcpListener, handler: Arc<Handler>, asked: Arc<Mutex<Vec<Asked>>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (handler, asked) = (handler.clone(), asked.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (handler, asked) = (handler.clone(), asked.clone());
            async move { Ok::<_, Infallible>(respond(request, &*handler, &asked).await) }
        });
        tokio::spawn(async move {
            let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    handler: &Handler,
    asked: &Mutex<Vec<Asked>>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let (head, body) = request.into_parts();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    let request = Asked {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: headers.collect(),
        body: body.collect().await.unwrap().to_bytes().to_vec(),
    };
    let number = {
        let mut asked = asked.lock().unwrap();
        asked.push(request.clone());
        asked.len() - 1
    };
    let answer = handler(number, &request);
    let mut response = Response::builder().status(answer.status).header("connection", "close");
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    let frames = answer.pieces.into_iter().map(|piece| Ok(Frame::data(piece)));
    response.body(BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))).unwrap()
}

/// What a run of the program came to.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn program(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead"));
    command.env_clear().env("ROADSTEAD_URL", url).env("ROADSTEAD_API_KEY", KEY);
    command
}

pub async fn run(url: &str, arguments: &[&str], stdin: &[u8]) -> Ran {
    let mut command = program(url);
    command.args(arguments);
    run_command(command, stdin).await
}

pub async fn run_command(mut command: Command, stdin: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let stdin = stdin.to_vec();
    let run = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        // A program that ends early closes the pipe, which is its right.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), &stdin);
        child.wait_with_output().unwrap()
    });
    let Output { status, stdout, stderr } = run.await.unwrap();
    Ran {
        status: status.code().expect("ended by a signal"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}
