package gatewaytest_test

import (
	"testing"

	"yunbox.local/daemon/gateway/gatewaytest"
)

func TestFiles(t *testing.T)      { t.Parallel(); gatewaytest.Run(t, connectNative(1)) }
func TestFilesHTTP2(t *testing.T) { t.Parallel(); gatewaytest.RunWire(t, connectNative(2)) }
func TestTus(t *testing.T)        { t.Parallel(); gatewaytest.Run(t, connectTus(1, false)) }
func TestTusHTTP2(t *testing.T)   { t.Parallel(); gatewaytest.RunWire(t, connectTus(2, false)) }
func TestTusWhole(t *testing.T)   { t.Parallel(); gatewaytest.Run(t, connectTus(1, true)) }
func TestFTP(t *testing.T)        { t.Parallel(); gatewaytest.Run(t, connectFTP(false)) }
func TestFTPS(t *testing.T)       { t.Parallel(); gatewaytest.RunWire(t, connectFTP(true)) }

func TestWebDAV(t *testing.T)      { t.Parallel(); gatewaytest.Run(t, connectWebDAV(1)) }
func TestWebDAVHTTP2(t *testing.T) { t.Parallel(); gatewaytest.RunWire(t, connectWebDAV(2)) }

func TestNextcloud(t *testing.T)       { t.Parallel(); gatewaytest.RunWire(t, connectNextcloud(1)) }
func TestNextcloudChunks(t *testing.T) { t.Parallel(); gatewaytest.Run(t, connectNextcloudChunks(1)) }
func TestNextcloudHTTP2(t *testing.T) {
	t.Parallel()
	gatewaytest.RunWire(t, connectNextcloudChunks(2))
}

func TestOneBox(t *testing.T) {
	t.Parallel()
	gatewaytest.Across(t, connectNative(2), connectTus(1, false))
	gatewaytest.Across(t, connectWebDAV(1), connectTus(2, false))
	gatewaytest.Across(t, connectFTP(true), connectNative(1))
	gatewaytest.Across(t, connectNextcloud(1), connectNextcloudChunks(2))
}
