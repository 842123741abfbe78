//! What rules look at.

use super::{Compiler, intern};
use crate::program::{Key, Pick, Selection};
use crate::seclang::{self, Collection, Target};

/// Whether its members are variables that rules set.
pub(crate) fn is_kept(collection: Collection) -> bool {
    matches!(
        collection,
        Collection::Tx
            | Collection::Ip
            | Collection::Global
            | Collection::Session
            | Collection::User
            | Collection::Resource
            | Collection::Env
    )
}

/// Whether rules change it, or whether it is made up when it is asked for.
pub(super) fn changes(collection: Collection) -> bool {
    is_kept(collection)
        || matches!(
            collection,
            Collection::MatchedVar
                | Collection::MatchedVarName
                | Collection::MatchedVars
                | Collection::MatchedVarsNames
                | Collection::HighestSeverity
                | Collection::Duration
                | Collection::Rule
        )
}

impl Compiler<'_> {
    pub(super) fn selection(&mut self, targets: &[Target]) -> Result<u32, String> {
        let (mut picks, mut excepts) = (Vec::new(), Vec::new());
        for target in targets {
            let pick = self.pick(target)?;
            if target.except { excepts.push(pick) } else { picks.push(pick) }
        }
        let changes = picks.iter().any(|pick| pick.count || changes(pick.collection));
        let selection = Selection { picks, excepts, changes };
        Ok(intern(&mut self.selections, &mut self.program.selections, selection))
    }

    pub(super) fn pick(&mut self, target: &Target) -> Result<Pick, String> {
        let key = match &target.key {
            seclang::Key::All => Key::All,
            seclang::Key::Name(name) => {
                if is_kept(target.collection) {
                    Key::Slot(self.slot(target.collection, name))
                } else {
                    Key::Name(name.to_ascii_lowercase().into_bytes().into())
                }
            }
            // Names are compared whatever the case of their letters.
            seclang::Key::Matching(pattern) => {
                Key::Matching(self.expression(&format!("(?i){pattern}"), false)?)
            }
        };
        Ok(Pick { collection: target.collection, key, count: target.count })
    }
}
