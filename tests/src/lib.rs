//! What the tests share: the Entra ID and Microsoft Graph emulator.
