//! An answer that comes in pieces.

use std::time::Duration;

use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::soon;

/// A body that is read event by event. Dropping it closes the connection.
pub(crate) struct Stream {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    buffer: String,
    /// The id of the last event that had one.
    pub(crate) last_id: Option<String>,
}

/// What stands between two empty lines of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Comment,
    Data(Value),
}

impl Stream {
    pub(super) fn new(response: http::Response<Incoming>) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.into_body(), buffer: String::new(), last_id: None }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        soon("the next event", self.read()).await
    }

    /// The next event that is no comment.
    pub(crate) async fn data(&mut self) -> Option<Value> {
        loop {
            match self.next().await? {
                Event::Comment => {}
                Event::Data(data) => return Some(data),
            }
        }
    }

    /// True where the stream ends within `limit`, whatever it says before.
    pub(crate) async fn ends_within(&mut self, limit: Duration) -> bool {
        let drain = async { while self.read().await.is_some() {} };
        tokio::time::timeout(limit, drain).await.is_ok()
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.buffer.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.buffer = rest;
                let id = event.lines().find_map(|line| line.strip_prefix("id: "));
                self.last_id = id.map(str::to_owned).or(self.last_id.take());
                return Some(parse(&event));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.push_str(std::str::from_utf8(&data).unwrap());
                    }
                }
                Some(Err(_)) | None => {
                    assert_eq!(self.buffer, "", "a stream broke off within an event");
                    return None;
                }
            }
        }
    }
}

fn parse(event: &str) -> Event {
    let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    match data.as_slice() {
        // One without data says only where the stream is.
        [] | [""] => Event::Comment,
        lines => Event::Data(serde_json::from_str(&lines.join("\n")).unwrap()),
    }
}
