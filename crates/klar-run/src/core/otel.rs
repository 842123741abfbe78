//! Where OpenTelemetry in an app sends what it sees: to telemetry, by the variables that every SDK of it reads
//! (<https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>). An app that says otherwise in its
//! own `env` is left alone.

use klar_base::{AppKey, InstanceId, ReleaseId, Secret};

use super::Core;

/// What tells where to send, and as whom.
const EXPORTER: &str = "OTEL_EXPORTER_OTLP_";

/// Adds the variables that are not there yet. `door`: a port of the loopback, and what shows whose it is.
fn add(
    env: &mut Vec<(String, String)>,
    id: &InstanceId,
    release: &ReleaseId,
    door: Option<(u16, Secret<String>)>,
) {
    // A token of klar's goes to klar, and not to wherever else the app sends.
    let sends_elsewhere =
        |(name, _): &(String, String)| name.starts_with(EXPORTER) && name.ends_with("ENDPOINT");
    let mut more = Vec::new();
    if let Some((port, token)) = door
        && !env.iter().any(sends_elsewhere)
    {
        more.extend([
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".into()),
            ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{}", token.expose())),
        ]);
    }
    more.extend([
        ("OTEL_SERVICE_NAME", id.service.to_string()),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            format!(
                "service.version={release},deployment.environment.name={},service.instance.id={}",
                id.key.env,
                id.short()
            ),
        ),
    ]);
    for (name, value) in more {
        if !env.iter().any(|(existing, _)| existing == name) {
            env.push((name.to_owned(), value));
        }
    }
}

impl Core {
    /// Lets what runs say to telemetry what it sees.
    pub(super) fn observed(&self, env: &mut Vec<(String, String)>, id: &InstanceId, release: &ReleaseId) {
        add(env, id, release, self.see_door(&id.key));
    }

    /// Where an app says something to telemetry, and what shows that it may. The door is opened if it is not open yet, so
    /// that the first instance knows of it as well as the last.
    fn see_door(&self, key: &AppKey) -> Option<(u16, Secret<String>)> {
        // Telemetry says itself why it cannot run.
        self.open_doors_once().ok()?;
        let see = self.see.borrow();
        Some((see.port()?, see.token(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_says_otherwise_is_left_alone() {
        let id: InstanceId = "shop.prod.api.7".parse().unwrap();
        let release: ReleaseId = "8e359c5cd8f2".parse().unwrap();
        let given = |own: &[(&str, &str)], door: bool| {
            let mut env: Vec<_> = own.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            add(&mut env, &id, &release, door.then(|| (4711, Secret::new("secret".into()))));
            env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("\n")
        };
        let who = "OTEL_SERVICE_NAME=api\n\
                   OTEL_RESOURCE_ATTRIBUTES=service.version=8e359c5cd8f2,deployment.environment.name=prod,service.instance.id=api.7";
        let all = format!(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4711\nOTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\n\
             OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20secret\n{who}"
        );
        assert_eq!(given(&[], true), all);
        assert_eq!(given(&[], false), who);
        for name in ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] {
            let own = format!("{name}=https://example.com\n{who}");
            assert_eq!(given(&[(name, "https://example.com")], true), own, "no token leaves klar");
        }
        let grpc = given(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_SERVICE_NAME", "mine")], true);
        assert!(grpc.starts_with("OTEL_EXPORTER_OTLP_PROTOCOL=grpc\nOTEL_SERVICE_NAME=mine\n"), "{grpc}");
        assert!(grpc.contains("ENDPOINT=") && grpc.matches("PROTOCOL").count() == 1, "{grpc}");
    }
}
