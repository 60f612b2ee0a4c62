//! What is wrong with a configuration: the first thing that is, with its field, its value and what would be right.
//!
//! Each field has its range (`ranges.rs`), some must fit together (`fit.rs`), addresses must be of use
//! (`addresses.rs`), and names have a form, which is here. What passes starts and runs.

use libp2p::PeerId;

use super::{Config, ConfigField, addresses, fit, ranges};
use crate::error::ConfigError;

impl Config {
    /// Finds the first thing that is wrong, with its field, its value and what would be right. Nothing outside is looked at: what is in a
    /// certificate's files tells [`TlsConfig::check_files`](super::TlsConfig::check_files).
    ///
    /// # Errors
    /// [`ConfigError`]; nothing else has happened then.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.fields().iter().try_for_each(ConfigField::check)?;
        fit::check(self)?;
        addresses::check(self)?;
        self.check_names()
    }

    /// Every field that is a number, a time, a list or a text, with its range. Budgets, a prologue and files that are not set have
    /// none.
    pub fn fields(&self) -> Vec<ConfigField> {
        ranges::fields(self)
    }

    fn check_names(&self) -> Result<(), ConfigError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let id = &self.chain.network_id;
        if !id.chars().all(allowed) {
            return Err(ConfigError::new(
                "chain.network_id",
                id,
                "give 1 to 64 of the characters a-z 0-9 . _ -",
            ));
        }
        let agent = &self.protocol.identify_config.agent_version;
        if agent.chars().any(char::is_control) {
            return Err(ConfigError::new(
                "protocol.identify_config.agent_version",
                agent,
                "give 1 to 64 printable characters",
            ));
        }
        for peer in &self.security.blacklist_config.peers {
            if peer.parse::<PeerId>().is_err() {
                return Err(ConfigError::new(
                    "security.blacklist_config.peers",
                    peer,
                    "give peer ids such as 12D3KooW…",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::test;

    #[test]
    fn defaults_are_right() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn an_error_names_field_value_and_remedy() {
        let mut config = Config::default();
        config.network.max_peers = 0;
        let error = config.check().expect_err("no peers at all");
        assert_eq!(
            error.to_string(),
            "config: network.max_peers = 0: give a number from 1 to 100000"
        );
    }

    #[test]
    fn a_name_has_a_form() {
        let mut config = Config::default();
        config.chain.network_id = "My Net".into();
        let error = config.check().expect_err("capitals");
        assert_eq!(error.field, "chain.network_id");
        let mut config = Config::default();
        config.protocol.identify_config.agent_version = "two\nlines".into();
        let error = config.check().expect_err("a control character");
        assert_eq!(error.field, "protocol.identify_config.agent_version");
        let mut config = Config::default();
        config.protocol.identify_config.interval = std::time::Duration::from_secs(9);
        let error = config.check().expect_err("peers would not listen");
        assert_eq!(error.field, "protocol.identify_config.interval");
        let mut config = Config::default();
        config.security.blacklist_config.peers = vec!["somebody".into()];
        let error = config.check().expect_err("no peer id");
        assert_eq!(error.field, "security.blacklist_config.peers");
    }
}
