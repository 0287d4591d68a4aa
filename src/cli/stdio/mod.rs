//! `toolgate stdio`: an MCP server on standard input and output that carries everything to a running gateway.
//!
//! Both eras pass, each as its own revision wants it over HTTP. Nothing but messages goes to standard output.

mod annotated;
mod answer;
mod exchange;
mod flights;
mod relay;
mod session;
mod stream;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::sync::mpsc;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, FramedRead};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::relay::Relay;
use self::wire::Wire;
use super::remote::{self, Client, Place};
use super::serve::told_to_stop;
use super::{Common, Ended};

/// Longest line that is read from the host, in bytes.
const MAX_LINE: usize = 16 << 20;
/// Lines that wait, in either direction.
const QUEUE: usize = 16;
/// How long answers may still take once the host has closed its end; a host waits two seconds before it kills.
const GRACE: Duration = Duration::from_secs(1);
/// How long the end of the session, and then the last lines, may take.
const FAREWELL: Duration = Duration::from_millis(400);

/// Which gateway, and which server behind it.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Only this server behind the gateway, as if connected to it directly
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
}

pub(super) async fn run(common: &Common, options: Options) -> anyhow::Result<Ended> {
    let key = options.place.key()?;
    let endpoint = remote::endpoint(&options.place.url(common).await, options.server.as_deref())?;
    let wire = Wire { client: Client::new(&endpoint, &key)?, uri: remote::uri(&endpoint)? };
    tracing::info!(%endpoint, "carrying everything to the gateway");
    let told = told_to_stop()?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (out, said) = mpsc::channel(QUEUE);
    let (sender, lines) = mpsc::channel(QUEUE);
    let relay = Arc::new(Relay::new(wire, out, stop.clone()));
    let writing = tasks.spawn(write(said, stop.clone()));
    let working = tasks.spawn(Arc::clone(&relay).work(lines));
    tokio::select! {
        () = read(sender, &relay) => {}
        () = stop.cancelled() => {}
        () = told => stop.cancel(),
    }
    let rest = async {
        drop(working.await);
        relay.calls.close();
        relay.calls.wait().await;
    };
    let _all = tokio::time::timeout(GRACE, rest).await;
    stop.cancel();
    let _ended = tokio::time::timeout(FAREWELL, relay.end()).await;
    drop(relay);
    // The writer ends with the last of those who hold the relay.
    let _written = tokio::time::timeout(FAREWELL, writing).await;
    Ok(Ended::Well)
}

/// Reads the host's lines to their end.
async fn read(lines: mpsc::Sender<Bytes>, relay: &Relay) {
    let codec = AnyDelimiterCodec::new_with_max_length(vec![b'\n'], vec![b'\n'], MAX_LINE);
    let mut input = FramedRead::new(tokio::io::stdin(), codec);
    let mut too_long = false;
    loop {
        match input.next().await {
            Some(Ok(line)) => {
                too_long = false;
                let line = line.strip_suffix(b"\r").map_or_else(|| line.clone(), |rest| line.slice_ref(rest));
                if !line.trim_ascii().is_empty() && lines.send(line).await.is_err() {
                    return;
                }
            }
            Some(Err(AnyDelimiterCodecError::MaxChunkLengthExceeded)) => {
                too_long = true;
                relay.refuse(None, -32600, format!("a message may have {MAX_LINE} bytes")).await;
            }
            // After an error the reader pauses once: that is not the end.
            None if std::mem::take(&mut too_long) => {}
            Some(Err(AnyDelimiterCodecError::Io(_))) | None => return,
        }
    }
}

/// Writes lines for the host, and stops everything where nobody takes them.
async fn write(mut lines: mpsc::Receiver<Bytes>, stop: CancellationToken) {
    let mut output = BufWriter::with_capacity(64 << 10, tokio::io::stdout());
    let work = async {
        while let Some(line) = lines.recv().await {
            output.write_all(&line).await?;
            output.write_all(b"\n").await?;
            if lines.is_empty() {
                output.flush().await?;
            }
        }
        output.flush().await
    };
    if let Err(error) = work.await {
        tracing::debug!(%error, "the host takes no more lines");
        stop.cancel();
    }
}
