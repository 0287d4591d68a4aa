//! A backend that is a child process: JSON-RPC messages, one per line.

use std::sync::Arc;

use tokio::io::{AsyncWriteExt, BufWriter};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::Shared;
use super::child::{Lines, NoLine, Pipes, Process, Program, Tail};
use super::duplex::{Carrier, MAX_MESSAGE, Outgoing, Way};
use crate::backend::fault::Fault;

/// A program to start, and who reads its standard error.
#[derive(Debug)]
pub(super) struct Stdio<'a> {
    pub(super) program: Program<'a>,
    pub(super) tracker: &'a TaskTracker,
    pub(super) tail: &'a Tail,
}

impl Way for Stdio<'_> {
    async fn start(&self, carrier: Carrier) -> Result<(), Fault> {
        let (process, pipes) = self.program.start()?;
        let Pipes { stdin, stdout, stderr } = pipes;
        let Carrier { shared, queue, stop } = carrier;
        let (broken, closing) = (CancellationToken::new(), CancellationToken::new());
        self.tracker.spawn(write(stdin, queue, closing.clone()));
        self.tracker.spawn(self.tail.clone().drain(stderr));
        let limit = self.program.limit.unwrap_or(MAX_MESSAGE);
        self.tracker.spawn(read(Arc::clone(&shared), stdout, broken.clone(), limit));
        self.tracker.spawn(mind(process, shared, [stop, broken, closing]));
        Ok(())
    }
}

/// Writes what is queued, many messages at a time; closes the child's input when told to.
async fn write(stdin: ChildStdin, mut queue: mpsc::Receiver<Outgoing>, closing: CancellationToken) {
    let mut stdin = BufWriter::with_capacity(64 << 10, stdin);
    let work = async {
        while let Some(message) = queue.recv().await {
            put(&mut stdin, &message).await?;
            while let Ok(message) = queue.try_recv() {
                put(&mut stdin, &message).await?;
            }
            stdin.flush().await?;
        }
        Ok::<(), std::io::Error>(())
    };
    if let Some(Err(error)) = closing.run_until_cancelled(work).await {
        tracing::debug!(%error, "a child takes no more input");
    }
}

/// A message is one line. Arguments travel as they came, and may have breaks between their tokens (a JSON string has none):
/// those become spaces.
async fn put(stdin: &mut BufWriter<ChildStdin>, message: &Outgoing) -> std::io::Result<()> {
    let text = message.text.as_bytes();
    if memchr::memchr2(b'\n', b'\r', text).is_some() {
        let line: Vec<u8> = text.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
        stdin.write_all(&line).await?;
    } else {
        stdin.write_all(text).await?;
    }
    stdin.write_all(b"\n").await
}

/// Reads lines until the child's output ends.
async fn read(shared: Arc<Shared>, stdout: ChildStdout, broken: CancellationToken, limit: usize) {
    let mut lines = Lines::new(stdout, limit);
    loop {
        match lines.next().await {
            Ok(line) if line.trim_ascii().is_empty() => {}
            Ok(line) => shared.hear(&line),
            Err(NoLine::TooLong) => {
                shared.end(format!("wrote a line longer than {limit} bytes and was killed"));
                broken.cancel();
                return;
            }
            Err(NoLine::End) => {
                broken.cancel();
                return;
            }
        }
    }
}

/// Waits for the child's end, and brings it about where it has to be: when told to `stop`, or when its output is
/// `broken`. `closing` closes its input.
async fn mind(mut process: Process, shared: Arc<Shared>, [stop, broken, closing]: [CancellationToken; 3]) {
    let how = tokio::select! {
        how = process.wait() => how,
        () = stop.cancelled() => process.end(&closing).await,
        // Without output it is of no use: it has a moment to leave by itself, so that its exit status can be told.
        () = broken.cancelled() => {
            if shared.is_over() { process.kill().await } else { process.end(&closing).await }
        }
    };
    closing.cancel();
    stop.cancel();
    shared.end(how);
}
