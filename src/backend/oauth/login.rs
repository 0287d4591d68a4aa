//! Logins of the operator at servers that ask for OAuth.

use super::client::{self, Pending};
use super::{Authorization, Failure, Kept, Subject};
use crate::config::tokens::{BackendOauth, Grant};
use crate::domain::id::ServerName;
use url::Url;

/// A login that nobody finished.
const LOGIN_MICROS: u64 = 600_000_000;

impl Authorization {
    fn server(&self) -> Result<(&ServerName, &Url, &BackendOauth), String> {
        match &self.subject {
            Subject::Server { name, url, settings } => Ok((name, url, settings)),
            Subject::Account { .. } => {
                Err("users connect accounts themselves: `POST /v1/providers/{slug}/connect`".into())
            }
        }
    }

    /// Begins a login; gives the page to which a person goes.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) async fn begin(&self, redirect: &str) -> Result<String, String> {
        let (name, url, settings) = self.server()?;
        if settings.grant == Grant::ClientCredentials {
            return Err(format!("`{name}` uses the client's own credentials: nobody logs in"));
        }
        let pending = client::begin(url, settings, redirect, self.clock.ticks()).await.map_err(told)?;
        let page = pending.page.to_string();
        self.work.lock().await.pending = Some(pending);
        Ok(page)
    }

    /// Ends the login that was begun last.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) async fn finish(&self, callback: &str) -> Result<(), String> {
        let (_, url, settings) = self.server()?;
        let mut work = self.work.lock().await;
        let young = |pending: &Pending| self.clock.ticks().saturating_sub(pending.since) < LOGIN_MICROS;
        let pending = work.pending.take_if(|_| true).filter(young);
        let pending = pending.ok_or("no login has been begun, or it took too long: begin anew")?;
        let finished = client::finish(&pending, url, settings, callback).await;
        let credentials = match finished {
            Ok(credentials) => credentials,
            Err(failure) => {
                // A wrong callback, from whoever, does not spoil the right one.
                work.pending = Some(pending);
                return Err(told(failure));
            }
        };
        work.loaded = true;
        work.asked = None;
        self.current.store(None);
        self.keep(&mut work, Kept::Server(credentials)).await
    }

    /// Forgets everything. True where there was something.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub(crate) async fn forget(&self) -> Result<bool, String> {
        self.server()?;
        let mut work = self.work.lock().await;
        Ok(self.clear(&mut work).await?.1)
    }
}

fn told(failure: Failure) -> String {
    match failure {
        Failure::LoginNeeded(why) | Failure::Other(why) => why,
    }
}
