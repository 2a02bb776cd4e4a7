//go:build !linux

package discovery

import (
	"context"
	"errors"
)

// watchLinks is for Linux only; elsewhere the announcer looks once a minute.
func watchLinks(context.Context, func()) (<-chan struct{}, error) {
	return nil, errors.ErrUnsupported
}
