//! What a line in the list of tools stands for: a module, and a place in what the servers offer.

/// Declares the module of each tool, and `local` and `remote`, which list them.
macro_rules! tools {
    ($($module:ident::$tool:ident => $($server:ident)+;)+) => {
        $(mod $module;)+

        /// The tools of the local server.
        pub fn local() -> Vec<&'static dyn LocalTool> {
            let offers: Vec<Option<&'static dyn LocalTool>> = vec![$($(offer!(local $server $module $tool)),+),+];
            offers.into_iter().flatten().collect()
        }

        /// The tools of the remote server.
        pub fn remote() -> Vec<&'static dyn RemoteTool> {
            let offers: Vec<Option<&'static dyn RemoteTool>> = vec![$($(offer!(remote $server $module $tool)),+),+];
            offers.into_iter().flatten().collect()
        }
    };
}

/// A tool, if it is one of the server that is asked for.
macro_rules! offer {
    (local local $module:ident $tool:ident) => {
        Some(&$module::$tool)
    };
    (remote remote $module:ident $tool:ident) => {
        Some(&$module::$tool)
    };
    (local remote $module:ident $tool:ident) => {
        None
    };
    (remote local $module:ident $tool:ident) => {
        None
    };
}
