package gatewaytest_test

import (
	"testing"

	"yunbox.local/daemon/gateway/gatewaytest"
)

func ways() []gatewaytest.Way {
	return []gatewaytest.Way{
		{Name: "files", Connect: connectNative(1)}, {Name: "tus", Connect: connectTus(2, false)}, {Name: "IETF", Connect: connectIETF(1, 0)},
		{Name: "WebDAV", Connect: connectWebDAV(1)}, {Name: "Nextcloud", Connect: connectNextcloud(2)},
		{Name: "chunks", Connect: connectNextcloudChunks(1)}, {Name: "Immich", Connect: connectImmich(1)}, {Name: "FTP", Connect: connectFTP(false)},
	}
}

func TestTogether(t *testing.T) { // R01 R02
	t.Parallel()
	gatewaytest.Together(t, ways())
}

func TestMinors(t *testing.T) { // R24
	t.Parallel()
	gatewaytest.Minors(t, ways())
}
