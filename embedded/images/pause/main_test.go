package main

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

func TestReapCollectsEveryChildThatEnded(t *testing.T) {
	pids := map[int]bool{}
	for range 5 {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		pids[pid] = true
	}
	for deadline := time.Now().Add(10 * time.Second); len(pids) > 0; time.Sleep(10 * time.Millisecond) {
		reap()
		for pid := range pids {
			// A zombie still takes signals; a collected child is no process any more.
			if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
				delete(pids, pid)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("not collected: %v", pids)
		}
	}
}

func TestReapReturnsAtOnceWithoutChildren(t *testing.T) {
	done := make(chan struct{})
	go func() {
		reap()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("reap waits")
	}
}
