package daemon

// Version of the daemon, in the form of Semantic Versioning 2.0.0. scripts/package sets
// it, to that of the release.
var Version = "0.1.0"
