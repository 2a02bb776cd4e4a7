//go:build !linux

package api

import "net"

// trustedPeer trusts nobody where the kernel is not asked who connected: the box
// is maintained over its socket on Linux only.
func trustedPeer(net.Conn) bool { return false }
