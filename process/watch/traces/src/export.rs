//! From the queue to the collector: a batch a second, each by one request. What a collector does not take is dropped, and
//! while it takes nothing it is asked every few seconds.

use crate::post::{PostError, post};
use crate::span::Span;
use crate::{Export, otlp};
use std::error::Error;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

/// A span, and when it was told, in nanoseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) span: Span,
    pub(crate) at: u64,
}

impl Export {
    /// Sends spans for as long as it is polled.
    pub async fn run(mut self) {
        let mut taken = true;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if self.queue.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            // More come while these wait; what no longer fits the queue then was too much.
            sleep(GATHER).await;
            while let Some(told) = (batch.len() < BATCH).then(|| self.queue.try_recv().ok()).flatten() {
                batch.push(told);
            }
            let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
            let body = otlp::request(&self.host, &batch);
            batch.clear();
            let sent = timeout(PATIENCE, post(self.endpoint.address(), PATH, &body)).await;
            let failed = match sent {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(said(&error)),
                Err(_elapsed) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            let counter = if failed.is_none() { &self.counted.sent } else { &self.counted.dropped };
            counter.fetch_add(count, Ordering::Relaxed);
            let before = std::mem::replace(&mut taken, failed.is_none());
            match failed {
                Some(why) => {
                    if before {
                        warn!(name: "traces-not-taken", endpoint = %self.endpoint, why, "the collector takes no spans; they are dropped");
                    }
                    sleep(AFTER_FAILURE).await;
                }
                None if !before => {
                    info!(name: "traces-taken", endpoint = %self.endpoint, "the collector takes spans again")
                }
                None => {}
            }
        }
    }
}

fn said(error: &PostError) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Of OTLP over HTTP.
const PATH: &str = "/v1/traces";
/// Spans of one request; together less than a megabyte.
const BATCH: usize = 1024;
/// A span waits so long for others.
const GATHER: Duration = Duration::from_secs(1);
/// For one request.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between requests that fail.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Endpoint, Place, QUEUE, SpanId, TraceId, Traces};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn span(name: &str) -> Span {
        Span {
            process: "p",
            trace: TraceId::random(),
            id: SpanId::random(),
            parent: None,
            name: name.to_owned(),
            place: Place::Internal,
            ended: Duration::ZERO,
            took: Duration::ZERO,
            refused: None,
            attributes: Vec::new(),
        }
    }

    async fn listener() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        (listener, endpoint)
    }

    /// Takes one request whole, and answers with this.
    async fn answer(listener: &TcpListener, with: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        let whole = |text: &str| {
            let (head, body) = text.split_once("\r\n\r\n")?;
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?.parse().ok()?;
            (body.len() >= length).then_some(())
        };
        while whole(&text).is_none() {
            let mut bytes = vec![0; 65536];
            let length = stream.read(&mut bytes).await.unwrap();
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
        stream.write_all(with.as_bytes()).await.unwrap();
        text
    }

    #[tokio::test]
    async fn spans_that_come_together_go_in_one_request_and_a_refused_one_is_dropped() {
        let (listener, endpoint) = listener().await;
        let (traces, export) = Traces::new(endpoint, "host");
        let exporting = tokio::spawn(export.run());
        traces.tell(span("redeem"));
        let request = answer(&listener, "HTTP/1.1 200 OK\r\n\r\n{}").await;
        assert!(request.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{request}");
        (0..3).for_each(|_| traces.tell(span("ask")));
        let request = answer(&listener, "HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        assert_eq!(request.matches("\"name\":\"ask\"").count(), 3, "{request}");
        assert!(!request.contains("\"redeem\""), "{request}");
        let counted = async {
            while traces.counted() != [("sent", 1), ("dropped", 3)] {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, counted).await.unwrap();
        exporting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_takes_nothing_costs_a_bounded_queue_and_nobody_waits() {
        // Accepted by the kernel, and never answered.
        let (_listener, endpoint) = listener().await;
        let (traces, export) = Traces::new(endpoint, "host");
        let _exporting = tokio::spawn(export.run());
        for _ in 0..10 * QUEUE {
            traces.tell(span("ask"));
        }
        let [_, (_, dropped)] = traces.counted();
        assert_eq!(dropped, u64::try_from(9 * QUEUE).unwrap());
        let rest = u64::try_from(10 * QUEUE).unwrap();
        while traces.counted() != [("sent", 0), ("dropped", rest)] {
            sleep(Duration::from_secs(1)).await;
        }
    }
}
