//! The foil's answer to what klar can do with an app.

use std::rc::Rc;

use super::App;
use crate::world::{Doing, Instance, Klar};

/// See [`super::Foil::hands`].
pub struct Hands(pub(super) Rc<App>);

fn done<T: 'static>(value: T) -> Doing<'static, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Klar for Hands {
    fn instances(&self) -> Doing<'_, Vec<Instance>> {
        let instance = |number: i32| Instance {
            name: format!("foil.{number}"),
            service: "foil".to_owned(),
            pid: Some(number),
            address: Some(([127, 0, 0, 1], self.0.ports[0]).into()),
        };
        let state = &self.0.state;
        let mut instances = vec![instance(100)];
        if !state.gone.get() {
            instances.insert(0, instance(1 + state.number.get()));
        }
        done(instances)
    }

    fn logs<'a>(&'a self, _: Option<&'a str>, lines: usize) -> Doing<'a, Vec<String>> {
        let log = self.0.state.log.borrow();
        done(log.iter().skip(log.len().saturating_sub(lines)).cloned().collect())
    }

    fn status(&self) -> Doing<'_, serde_json::Value> {
        let store = serde_json::json!({"name": "db", "kind": "postgres", "port": self.0.ports[1]});
        done(serde_json::json!({"stores": [store]}))
    }

    fn take_away<'a>(&'a self, _: &'a str) -> Doing<'a, ()> {
        self.0.state.database_away.set(true);
        self.0.state.was_away.set(true);
        done(())
    }

    fn give_back<'a>(&'a self, _: &'a str) -> Doing<'a, ()> {
        self.0.state.database_away.set(false);
        done(())
    }

    fn stores(&self) -> Doing<'_, Vec<(String, String)>> {
        done(vec![("db".to_owned(), "postgres".to_owned())])
    }

    fn kill<'a>(&'a self, _: &'a Instance) -> Doing<'a, ()> {
        let state = &self.0.state;
        state.number.set(state.number.get() + 1);
        state.gone.set(self.0.has("never-restarted"));
        done(())
    }
}
