// Package idle ends transfers from which nothing comes.
package idle

import (
	"io"
	"sync/atomic"
	"time"
)

// Watch closes the source when nothing came for the timeout, which ends the read that waits on it.
type Watch struct {
	timer   *time.Timer
	timeout time.Duration
	expired atomic.Bool
}

// NewWatch begins to wait.
func NewWatch(timeout time.Duration, source io.Reader) *Watch {
	watch := &Watch{timeout: timeout}
	watch.timer = time.AfterFunc(timeout, func() {
		watch.expired.Store(true)
		if closer, ok := source.(io.Closer); ok {
			closer.Close()
		}
	})
	return watch
}

// Alive begins to wait anew.
func (w *Watch) Alive() { w.timer.Reset(w.timeout) }

// Stop waits no more, until Alive.
func (w *Watch) Stop() { w.timer.Stop() }

// HasExpired tells whether the watch has closed the source.
func (w *Watch) HasExpired() bool { return w.expired.Load() }
