//! Stub of the random-user API that sends scripted replies, for cases that the offline API can't produce. It validates
//! nothing and has no rate limit.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::support::serve;

/// Stands for the seed of the request in the body of a reply.
pub(crate) const SEED: &str = "{seed}";

/// A status and a body.
pub(crate) type Reply = (u16, Value);

#[derive(Default)]
struct ApiStubState {
    replies: Mutex<VecDeque<Reply>>,
    queries: Mutex<Vec<String>>,
}

pub(crate) struct StubApi {
    address: SocketAddr,
    state: Arc<ApiStubState>,
}

impl StubApi {
    /// Sends these replies in order and repeats the last one.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let state = Arc::new(ApiStubState {
            replies: Mutex::new(replies.into_iter().collect()),
            queries: Mutex::default(),
        });
        let router = Router::new().fallback(reply).with_state(Arc::clone(&state));
        let address = serve(router).await;
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the query of each request.
    pub(crate) fn queries(&self) -> Vec<String> {
        self.state.queries.lock().unwrap().clone()
    }
}

async fn reply(State(state): State<Arc<ApiStubState>>, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default().to_owned();
    let parameters = query.split('&');
    let seed = parameters
        .filter_map(|parameter| parameter.strip_prefix("seed="))
        .next();
    let seed = seed.unwrap_or_default().to_owned();
    state.queries.lock().unwrap().push(query);
    let mut replies = state.replies.lock().unwrap();
    let last = replies.len() == 1;
    let next = if last {
        replies.front().cloned()
    } else {
        replies.pop_front()
    };
    let (status, body) = next.unwrap();
    let json = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    (
        StatusCode::from_u16(status).unwrap(),
        json,
        body.to_string().replace(SEED, &seed),
    )
        .into_response()
}

/// Returns a user of version 1.4 that is unique for `number`.
pub(crate) fn user(number: u32) -> Value {
    json!({
        "gender": "female",
        "name": {"title": "Ms", "first": "Aino", "last": "Salo"},
        "location": {
            "street": {"number": 7, "name": "Rantatie"}, "city": "Turku", "state": "Pirkanmaa",
            "country": "Finland", "postcode": 20100,
            "coordinates": {"latitude": "1.5", "longitude": "-3.25"},
            "timezone": {"offset": "+2:00", "description": "Helsinki"}
        },
        "email": "aino.salo@example.com",
        "login": {
            "uuid": format!("{number:08x}-0000-4000-8000-000000000000"), "username": "goldenfish101",
            "password": "pass-word", "salt": "sa-lt", "md5": "md-5", "sha1": "sha-1", "sha256": "sha-256"
        },
        "dob": {"date": "1981-03-04T05:06:07.089Z", "age": 45},
        "registered": {"date": "2010-11-12T13:14:15.161Z", "age": 15},
        "phone": "02-345-678", "cell": "040-123-45-67",
        "id": {"name": "HETU", "value": "national-id"},
        "picture": {"large": "l", "medium": "https://example.org/med/1.jpg", "thumbnail": "t"},
        "nat": "FI"
    })
}

/// Returns a reply of version 1.4 with these users.
pub(crate) fn page(users: &[Value], page: u32) -> Reply {
    let info = json!({"seed": SEED, "results": users.len(), "page": page, "version": "1.4"});
    (200, json!({"results": users, "info": info}))
}
