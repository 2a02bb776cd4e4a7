//go:build !linux

package inbox

import (
	"context"
	"errors"
)

func tellOfMounts(context.Context, func()) error { return errors.ErrUnsupported }
