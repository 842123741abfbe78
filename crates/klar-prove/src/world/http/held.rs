//! Looking at connections themselves: whether one stays open, and which certificate a new one sees.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{ANSWER, Ask, CONNECT, Client, LONGEST_BODY, Silence, unbelieving};

/// A connection that is held, whatever becomes of others.
pub struct Held<'c> {
    client: &'c Client,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Opens a connection, asks once, and holds it.
    ///
    /// # Errors
    /// Why not even that was answered.
    pub async fn held(&self, ask: &Ask) -> Result<Held<'_>, Silence> {
        let mut held = Held { client: self, sender: self.connect().await? };
        held.ask(ask).await?;
        Ok(held)
    }

    /// Whether a connection takes a second request after the first was answered.
    ///
    /// # Errors
    /// Why not even the first was answered.
    pub async fn stays_open(&self, ask: &Ask) -> Result<bool, Silence> {
        Ok(self.held(ask).await?.again(ask).await)
    }

    /// The certificate that a new connection is shown, as DER.
    ///
    /// # Errors
    /// Why there was no handshake.
    pub async fn certificate(&self) -> Result<Vec<u8>, Silence> {
        let tcp = self.tcp().await?;
        let name = ServerName::try_from(self.origin().host.trim_matches(['[', ']']).to_owned())
            .map_err(|why| Silence::Tls(why.to_string()))?;
        // A session that is resumed shows no certificate: each look begins anew.
        let config = unbelieving(rustls::ALL_VERSIONS).map_err(|why| Silence::Tls(why.to_string()))?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let stream = timeout(CONNECT, connecting).await.map_err(|_| Silence::Late)?;
        let stream = stream.map_err(|why| Silence::Tls(why.to_string()))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        shown.map(|first| first.to_vec()).ok_or_else(|| Silence::Tls("no certificate was shown".to_owned()))
    }
}

impl Held<'_> {
    /// Whether the same connection answers once more.
    pub async fn again(&mut self, ask: &Ask) -> bool {
        self.ask(ask).await.is_ok()
    }

    async fn ask(&mut self, ask: &Ask) -> Result<(), Silence> {
        let request = self.client.request(ask)?;
        let cut = |why: hyper::Error| Silence::Cut(why.to_string());
        let asked = async {
            self.sender.ready().await.map_err(cut)?;
            let answer = self.sender.send_request(request).await.map_err(cut)?;
            let body = Limited::new(answer.into_body(), LONGEST_BODY).collect().await;
            body.map(drop).map_err(|why| Silence::Cut(why.to_string()))
        };
        timeout(ask.patience.unwrap_or(ANSWER), asked).await.unwrap_or(Err(Silence::Late))
    }
}
