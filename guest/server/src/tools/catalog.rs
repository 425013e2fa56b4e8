//! What a line in the list of tools stands for: a module, and a place in what the servers offer.

/// Declares the module of each tool, and `local` and `remote`, which list them.
macro_rules! tools {
    ($($module:ident::$tool:ident => $($server:ident)+;)+) => {
        $(mod $module;)+

        /// All tools, each with whether the local and whether the remote server has it.
        static TOOLS: &[(&dyn AnyTool, bool, bool)] = &[$((
            {
                static LISTED: tool::Listed<$module::$tool> = tool::Listed::new();
                &LISTED
            },
            offers!(local: $($server)+),
            offers!(remote: $($server)+),
        )),+];

        /// The tools of the local server.
        pub fn local() -> Vec<&'static dyn AnyTool> {
            TOOLS.iter().filter(|(_, local, _)| *local).map(|(tool, ..)| *tool).collect()
        }

        /// The tools of the remote server.
        pub fn remote() -> Vec<&'static dyn AnyTool> {
            TOOLS.iter().filter(|(_, _, remote)| *remote).map(|(tool, ..)| *tool).collect()
        }
    };
}

/// Whether a server is one of these.
macro_rules! offers {
    (local: local $($more:ident)*) => {
        true
    };
    (remote: remote $($more:ident)*) => {
        true
    };
    ($server:ident: $other:ident $($more:ident)*) => {
        offers!($server: $($more)*)
    };
    ($server:ident:) => {
        false
    };
}
