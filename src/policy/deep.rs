//! A stack for work that recurses as deep as a policy is long.

use std::thread;

/// Cedar's parser and validator take some 25 KiB of stack for each operator in a row (unoptimised; a few KiB
/// optimised), and a thread that overflows ends the process. Policies are bounded in operators, and this is enough
/// for the bound. Only pages that are touched cost memory.
const STACK: usize = 64 << 20;

/// Runs `work` on a thread with a deep stack and waits for it. Where no thread can be had, it runs here.
pub(super) fn on_deep_stack<T: Send>(work: impl Fn() -> T + Sync) -> T {
    thread::scope(|scope| match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, &work) {
        Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => work(),
    })
}
