package main

import (
	"net"
	"os"
)

// notify tells the service manager the state of the daemon (sd_notify(3)): one
// datagram to the socket named by NOTIFY_SOCKET. Without one it does nothing.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	// A leading @ means the abstract namespace, which package net spells the same.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}
