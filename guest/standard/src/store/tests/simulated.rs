//! A folder in memory, whose operations the scheduler puts in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use world::testing::simulation::Simulation;

use crate::folder::{Folder, FolderError};

/// A file with its bytes, or a folder.
type Node = Option<Vec<u8>>;

/// The files and folders by their paths.
#[derive(Clone, Default)]
pub(super) struct Tree(Rc<RefCell<BTreeMap<String, Node>>>);

impl Tree {
    pub(super) fn paths(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    fn has_inside(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        self.0.borrow().keys().any(|path| path.starts_with(&below))
    }

    fn has_parent(&self, path: &str) -> bool {
        path.rsplit_once('/').is_none_or(|(parent, _)| self.0.borrow().get(parent) == Some(&None))
    }
}

/// The folder of one instance.
pub(super) struct SimulatedFolder {
    pub(super) world: Simulation,
    pub(super) tree: Tree,
}

impl SimulatedFolder {
    /// One operation. Folders below `tmp` are of one instance each, and a shard is one thing: two operations on it are not
    /// put into one order only.
    async fn step(&self, name: &'static str, path: &str, reads_only: bool) -> Result<(), FolderError> {
        let parts = if path.starts_with("tmp/") { 2 } else { 1 };
        let on: Vec<_> = path.split('/').take(parts).collect();
        match self.world.operation(name, &on.join("/"), reads_only).await {
            true => Err(FolderError::Failed("out of order".to_owned())),
            false => Ok(()),
        }
    }
}

impl Folder for SimulatedFolder {
    async fn list(&self, folder: &str) -> Result<Vec<String>, FolderError> {
        self.step("list", folder, true).await?;
        if !folder.is_empty() && self.tree.0.borrow().get(folder) != Some(&None) {
            return Err(FolderError::Missing);
        }
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let tree = self.tree.0.borrow();
        let inside = tree.keys().filter_map(|path| path.strip_prefix(&below));
        Ok(inside.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    async fn read(&self, file: &str, longest: usize) -> Result<Vec<u8>, FolderError> {
        self.step("read", file, true).await?;
        match self.tree.0.borrow().get(file) {
            Some(Some(bytes)) if bytes.len() <= longest => Ok(bytes.clone()),
            Some(_) => Err(FolderError::Failed("no file of this length".to_owned())),
            None => Err(FolderError::Missing),
        }
    }

    async fn write_new(&self, file: &str, bytes: &[u8], _: bool) -> Result<(), FolderError> {
        self.step("write", file, false).await?;
        if !self.tree.has_parent(file) {
            return Err(FolderError::Missing);
        }
        if self.tree.0.borrow().contains_key(file) {
            return Err(FolderError::Exists);
        }
        self.tree.0.borrow_mut().insert(file.to_owned(), Some(bytes.to_vec()));
        Ok(())
    }

    async fn empty(&self, file: &str) -> Result<(), FolderError> {
        self.step("empty", file, false).await?;
        match self.tree.0.borrow_mut().get_mut(file) {
            Some(Some(bytes)) => {
                bytes.clear();
                Ok(())
            }
            _ => Err(FolderError::Missing),
        }
    }

    async fn make(&self, folder: &str) -> Result<(), FolderError> {
        self.step("make", folder, false).await?;
        if !self.tree.has_parent(folder) {
            return Err(FolderError::Missing);
        }
        if self.tree.0.borrow().contains_key(folder) {
            return Err(FolderError::Exists);
        }
        self.tree.0.borrow_mut().insert(folder.to_owned(), None);
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), FolderError> {
        // Of the two, one is below `tmp`.
        self.step("rename", if to.starts_with("tmp/") { from } else { to }, false).await?;
        if self.tree.0.borrow().get(from) != Some(&None) || !self.tree.has_parent(to) {
            return Err(FolderError::Missing);
        }
        if self.tree.has_inside(to) {
            return Err(FolderError::Exists);
        }
        let below = format!("{from}/");
        let mut tree = self.tree.0.borrow_mut();
        let moved: Vec<_> = tree.keys().filter(|path| *path == from || path.starts_with(&below)).cloned().collect();
        for path in moved {
            let node = tree.remove(&path).unwrap();
            tree.insert(format!("{to}{}", &path[from.len()..]), node);
        }
        Ok(())
    }

    async fn remove_file(&self, file: &str) -> Result<(), FolderError> {
        self.step("remove", file, false).await?;
        self.tree.0.borrow_mut().remove(file).map(drop).ok_or(FolderError::Missing)
    }

    async fn remove_folder(&self, folder: &str) -> Result<(), FolderError> {
        self.step("remove", folder, false).await?;
        if self.tree.has_inside(folder) {
            return Err(FolderError::Exists);
        }
        self.tree.0.borrow_mut().remove(folder).map(drop).ok_or(FolderError::Missing)
    }
}
