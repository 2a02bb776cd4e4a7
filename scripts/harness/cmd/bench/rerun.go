package main

import (
	"context"
)

func (b *bench) rerun(ctx context.Context) error { return nil }
