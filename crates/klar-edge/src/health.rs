//! Asking instances how they are, beside what their answers tell.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Request, header};

use crate::asking::Asking;
use crate::forward::ToApp;
use crate::pool;
use crate::table::Shared;
use crate::upstream::UpstreamState;

/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// How long an instance may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks every instance, for ever.
pub async fn watch(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let table = shared.table.load_full();
        for (site, service) in table.services() {
            for upstream in service.upstreams.iter().filter(|upstream| upstream.weight() > 0) {
                if upstream.probed.swap(true, Ordering::Relaxed) {
                    continue;
                }
                let question = Question {
                    path: service.health.clone(),
                    host: site.first_host.clone(),
                    upstream: upstream.clone(),
                };
                let shared = shared.clone();
                tokio::task::spawn_local(async move { question.ask(&shared).await });
            }
        }
    }
}

struct Question {
    path: Option<String>,
    host: String,
    upstream: Arc<UpstreamState>,
}

impl Question {
    async fn ask(&self, shared: &Shared) {
        let answer = tokio::time::timeout(PATIENCE, self.answer()).await;
        match answer {
            Ok(Ok(true)) => self.upstream.note_well(shared),
            Ok(Err(gone)) => self.upstream.note_miss(gone, shared),
            Ok(Ok(false)) | Err(_) => self.upstream.note_miss(false, shared),
        }
        self.upstream.probed.store(false, Ordering::Relaxed);
    }

    /// Whether it is well. `Err`: it could not be asked; `true` when nobody listens.
    async fn answer(&self) -> Result<bool, bool> {
        let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        let (connection, driver) = pool::connect(&self.upstream).await.map_err(refused)?;
        let Some(path) = &self.path else { return Ok(true) };
        let request = Request::get(path)
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, "klar-health")
            .header(header::CONNECTION, "close")
            .header("x-forwarded-proto", "https")
            .body(())
            .map_err(|_| false)?;
        let driver = driver.map(tokio::task::spawn_local);
        let answer = connection.exchange(&Asking::own(&request.into_parts().0), ToApp::default()).await;
        if let Some(driver) = driver {
            driver.abort();
        }
        let status = answer.map_err(|_| false)?.status();
        Ok(status.is_success() || status.is_redirection())
    }
}
