// For programs in other folders, which have the packages of their own.

export * from "@azure/msal-node";
