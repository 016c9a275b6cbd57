//! The Docker Engine API's types, as they stand on the wire.
//!
//! Server and command line share them, so that both speak one dialect: version 1.47 of the API. They
//! are plain data: no type here does anything, checks anything or knows what dhow is.
//!
//! Reading is lenient, because Go clients write `null` for every empty list and map and add fields
//! from one release to the next: a missing field and a `null` are the field's default, an unknown
//! field is ignored. Writing is exact: where existing clients tell `null` from an empty list, the
//! field is written as Docker writes it.
//!
//! A structure is declared within `wire!`, which adds that leniency to each of its fields.

/// The newest version of the Docker Engine API that dhow speaks.
pub const API_VERSION: &str = "1.47";

/// The oldest version of the Docker Engine API that dhow speaks.
pub const MIN_API_VERSION: &str = "1.24";

#[macro_use]
mod declare;
pub mod null;

pub mod auth;
pub mod container;
pub mod dhow;
pub mod error;
pub mod event;
pub mod exec;
pub mod frame;
pub mod image;
pub mod network;
pub mod progress;
pub mod system;
pub mod volume;

pub use auth::AuthConfig;
pub use error::ErrorResponse;

#[cfg(test)]
mod tests {
    use super::container::{Config, ContainerInspect, CreateRequest};
    use super::system::Filters;

    #[test]
    fn nulls_are_defaults() -> Result<(), serde_json::Error> {
        let request: CreateRequest = serde_json::from_str(
            r#"{"Hostname":"", "Env":null, "Cmd":null, "Entrypoint":"sh", "Labels":null, "Tty":null,
                "ExposedPorts":{"80/tcp":{}, "81/udp":null}, "NotThereYet": {"a": [1]},
                "HostConfig":{"Binds":null, "PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}], "81/udp":null},
                              "LogConfig":{"Type":"","Config":null}, "ConsoleSize":[24,80], "Init":null},
                "NetworkingConfig":{"EndpointsConfig":{"default":null}}}"#,
        )?;
        assert_eq!(request.config.cmd, None);
        assert_eq!(request.config.entrypoint, Some(vec!["sh".to_owned()].into()));
        assert_eq!(request.config.exposed_ports.len(), 2);
        assert_eq!(request.host_config.port_bindings.get("81/udp"), Some(&None));
        assert_eq!(request.host_config.console_size, [24, 80]);
        let empty: CreateRequest = serde_json::from_str("{}")?;
        assert_eq!(empty, CreateRequest::default());
        let again: CreateRequest = serde_json::from_str(&serde_json::to_string(&request)?)?;
        assert_eq!(again.host_config, request.host_config);
        Ok(())
    }

    #[test]
    fn empty_lists_are_written_as_docker_writes_them() -> Result<(), serde_json::Error> {
        let config = serde_json::to_value(Config::default())?;
        assert!(config["Cmd"].is_null() && config["Env"].is_null() && config["Volumes"].is_null());
        assert!(config["Labels"].is_object());
        assert!(config.get("ExposedPorts").is_none() && config.get("StopTimeout").is_none());
        let inspect = serde_json::to_value(ContainerInspect::default())?;
        assert!(inspect["HostConfig"]["Binds"].is_null() && inspect["ExecIDs"].is_null());
        assert!(inspect["Mounts"].is_array());
        assert_eq!(inspect["State"]["OOMKilled"], false);
        Ok(())
    }

    #[test]
    fn filters_come_in_two_shapes() -> Result<(), serde_json::Error> {
        let map: Filters = serde_json::from_str(r#"{"label":{"a=b":true,"c":false}}"#)?;
        let list: Filters = serde_json::from_str(r#"{"label":["a=b"]}"#)?;
        assert_eq!(map, list);
        assert_eq!(map.values("label"), ["a=b"]);
        assert_eq!(map.values("name"), [""; 0]);
        Ok(())
    }
}
