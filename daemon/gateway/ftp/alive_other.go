//go:build !linux

package ftp

import "net"

// alive cannot ask the kernel here. That the session has ended is seen all the same.
func alive(net.Conn) bool { return true }
