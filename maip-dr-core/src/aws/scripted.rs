//! A connection that answers from a script and keeps what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

/// What happens to one request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// A status and a body.
    Answer(u16, String),
    /// The connection ends before an answer.
    Reset,
    /// No answer in time.
    Silence,
    /// No connection at all.
    Unreachable,
}

/// `200` and this body.
pub(super) fn ok(body: &str) -> Reply {
    Reply::Answer(200, body.to_owned())
}

/// The script.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(super) fn of(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { replies: Arc::new(Mutex::new(replies.into_iter().collect())), asked: Arc::default() }
    }

    /// Every request so far: `METHOD PATH?QUERY BODY`.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let path = request.uri().split_once("amazonaws.com").map_or(request.uri(), |(_, path)| path);
        self.asked.lock().unwrap().push(format!("{} {path} {body}", request.method()));
        let reply = self.replies.lock().unwrap().pop_front().expect("the script has an answer left");
        HttpConnectorFuture::ready(match reply {
            Reply::Answer(status, body) => {
                Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body)))
            }
            Reply::Reset => Err(ConnectorError::io("connection reset by peer".into())),
            Reply::Silence => Err(ConnectorError::timeout("HTTP read timeout occurred after 3s".into())),
            Reply::Unreachable => Err(ConnectorError::io("client error (Connect): tcp connect error".into())),
        })
    }
}

impl HttpClient for Script {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
