//! All containers by id and name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dhow_error::{Error, Kind, Result};
use dhow_spec::ContainerId;

use crate::container::Container;

/// All containers of one engine. Locked for moments only.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// Ordered, so that prefixes are found without a scan.
    by_id: BTreeMap<String, Arc<Container>>,
    /// Also names that a container being created has taken.
    names: HashMap<String, ContainerId>,
}

impl Registry {
    /// The container that `name` means: a full id, a name, or a unique beginning of an id, in this order.
    ///
    /// Errors: not found; invalid if several ids begin so.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Container>> {
        let tables = self.tables();
        let bare = name.strip_prefix('/').unwrap_or(name);
        if let Some(container) = tables.by_id.get(bare) {
            return Ok(Arc::clone(container));
        }
        let named = tables.names.get(bare).and_then(|id| tables.by_id.get(id.as_str()));
        if let Some(container) = named {
            return Ok(Arc::clone(container));
        }
        let mut matches =
            tables.by_id.range(bare.to_owned()..).take_while(|(id, _)| id.starts_with(bare));
        match (matches.next(), matches.next()) {
            (Some((_, container)), None) if !bare.is_empty() => Ok(Arc::clone(container)),
            (Some(_), Some(_)) if !bare.is_empty() => {
                Err(Error::invalid(format!("multiple IDs found with provided prefix: {bare}")))
            }
            _ => {
                let name: String = name.chars().take(200).collect();
                Err(Error::not_found(format!("No such container: {name}")))
            }
        }
    }

    /// Takes a name. Conflict, in Docker's words, if another has it.
    pub(crate) fn reserve(&self, name: &str, id: &ContainerId) -> Result<()> {
        let mut tables = self.tables();
        if let Some(holder) = tables.names.get(name) {
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "Conflict. The container name \"/{name}\" is already in use by container \
                     \"{holder}\". You have to remove (or rename) that container to be able to reuse \
                     that name."
                ),
            ));
        }
        tables.names.insert(name.to_owned(), id.clone());
        Ok(())
    }

    /// Gives a name back, if `id` has it.
    pub(crate) fn release(&self, name: &str, id: &ContainerId) {
        let mut tables = self.tables();
        if tables.names.get(name) == Some(id) {
            tables.names.remove(name);
        }
    }

    /// Adds a container whose name is reserved.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        self.tables().by_id.insert(container.id.to_string(), container);
    }

    /// Forgets a container and its name.
    pub(crate) fn remove(&self, container: &Container) {
        let name = container.name();
        self.tables().by_id.remove(container.id.as_str());
        self.release(&name, &container.id);
    }

    /// All of them, by id.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.tables().by_id.values().cloned().collect()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Folders;
    use crate::record::Record;
    use crate::spec::ContainerSpec;
    use crate::state::State;
    use dhow_spec::Digest;
    use std::path::Path;

    fn add(registry: &Registry, id: &str, name: &str) {
        let id: ContainerId = id.parse().unwrap();
        registry.reserve(name, &id).unwrap();
        let image = Digest::of(b"");
        let spec = ContainerSpec::default();
        let record = Record::new(id.clone(), name.into(), 1, image, Vec::new(), spec);
        let folders = Folders::new(Path::new("/r"), Path::new("/v"), "/dhow", id.as_str());
        registry.insert(Arc::new(Container::new(record, State::default(), folders)));
    }

    #[test]
    fn containers_are_found_by_id_name_and_prefix() {
        let registry = Registry::default();
        let (first, second) = ("a1".repeat(32), format!("a1b2{}", "0".repeat(60)));
        add(&registry, &first, "web");
        add(&registry, &second, "a1b");
        let found = |name: &str| registry.find(name).map(|container| container.id.to_string());
        assert_eq!(found(&first).unwrap(), first);
        assert_eq!(found("/web").unwrap(), first);
        assert_eq!(found("a1a").unwrap(), first);
        assert_eq!(found("a1b").unwrap(), second, "a name goes before a prefix");
        assert_eq!(found("a1").unwrap_err().kind(), Kind::Invalid);
        for name in ["", "/", "nosuch", "b"] {
            assert_eq!(found(name).unwrap_err().kind(), Kind::NotFound, "{name:?}");
        }
    }

    #[test]
    fn a_name_has_one_holder() {
        let registry = Registry::default();
        add(&registry, &"a1".repeat(32), "web");
        let other: ContainerId = "b2".repeat(32).parse().unwrap();
        let error = registry.reserve("web", &other).unwrap_err();
        assert!(error.to_string().contains("already in use by container"));
        registry.release("web", &other);
        assert!(registry.find("web").is_ok(), "only the holder gives it back");
    }
}
