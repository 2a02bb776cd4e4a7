package daemon

// Version of the daemon, in the form of Semantic Versioning 2.0.0.
const Version = "0.1.0"
