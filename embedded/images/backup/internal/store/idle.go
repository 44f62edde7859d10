package store

import (
	"io"
	"sync/atomic"
	"time"
)

// idleWatch closes the source when nothing came for the timeout, which ends the read that waits on it.
type idleWatch struct {
	timer   *time.Timer
	timeout time.Duration
	expired atomic.Bool
}

func watchIdle(timeout time.Duration, source io.Reader) *idleWatch {
	watch := &idleWatch{timeout: timeout}
	watch.timer = time.AfterFunc(timeout, func() {
		watch.expired.Store(true)
		if closer, ok := source.(io.Closer); ok {
			closer.Close()
		}
	})
	return watch
}

func (w *idleWatch) alive()           { w.timer.Reset(w.timeout) }
func (w *idleWatch) stop()            { w.timer.Stop() }
func (w *idleWatch) hasExpired() bool { return w.expired.Load() }
