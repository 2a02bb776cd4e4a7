package daemon

import "yunbox.local/daemon/httpd"

// Routes lists what the network can ask of b over HTTP.
func Routes(b *Box) []httpd.Route { return b.front.Routes() }
