// Command launcher is what the engine starts in the place of a plugin: it takes over a process of that plugin which
// was started ahead and waits (see ../pool.ts), or becomes a new one where none waits.
//
// Beside it lies <its own name>.json, a Settings. The process that is taken over gets this one's arguments,
// environment and folder; what it prints, and how it ends, is told here. It lives as long as this one does.
package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Settings say which process is wanted.
type Settings struct {
	// Socket is where the pool listens.
	Socket string `json:"socket"`
	// Kind of process, as the pool calls it.
	Kind string `json:"kind"`
	// Command starts a new one; the arguments of this program follow.
	Command []string `json:"command"`
}

// Request is what the pool is asked, in one line of JSON.
type Request struct {
	Kind        string            `json:"kind"`
	Arguments   []string          `json:"arguments"`
	Environment map[string]string `json:"environment"`
	Folder      string            `json:"folder"`
	// Network tells network namespaces apart: a process of another one would reach other hosts.
	Network string `json:"network"`
}

// Kinds of what the pool answers: a byte, the length of what follows in four, big-endian, and that.
const (
	taken  = 0
	stdout = 1
	stderr = 2
	ended  = 3
)

const (
	// The pool answers at once or not at all.
	patience   = time.Second
	parentPoll = 500 * time.Millisecond
	// engineGone is sent in the place of a signal's number.
	engineGone = 0
)

func main() {
	file, err := os.Executable()
	if err != nil {
		fail(err)
	}
	text, err := os.ReadFile(file + ".json")
	if err != nil {
		fail(err)
	}
	var settings Settings
	if err := json.Unmarshal(text, &settings); err != nil {
		fail(err)
	}
	if len(settings.Command) == 0 {
		fail(errors.New("no command in " + file + ".json"))
	}
	// Before asking, so that none that comes meanwhile is lost.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if pool, err := take(settings); err == nil {
		relay(pool, signals)
	}
	signal.Reset()
	select {
	case <-signals:
		os.Exit(1)
	default:
	}
	program, err := exec.LookPath(settings.Command[0])
	if err != nil {
		fail(err)
	}
	fail(syscall.Exec(program, append(settings.Command, os.Args[1:]...), os.Environ()))
}

func fail(err error) {
	os.Stderr.WriteString("Plugin: must start, got \"" + err.Error() + "\". Run npm start, which makes it anew.\n")
	os.Exit(1)
}

// take asks for a process that waits.
func take(settings Settings) (net.Conn, error) {
	pool, err := net.DialTimeout("unix", settings.Socket, patience)
	if err != nil {
		return nil, err
	}
	network, err := os.Readlink("/proc/self/ns/net")
	if err == nil {
		var folder string
		folder, err = os.Getwd()
		if err == nil {
			pool.SetDeadline(time.Now().Add(patience))
			err = json.NewEncoder(pool).Encode(Request{settings.Kind, os.Args[1:], environment(), folder, network})
		}
	}
	if err == nil {
		_, _, err = read(pool)
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	pool.SetDeadline(time.Time{})
	return pool, nil
}

func environment() map[string]string {
	found := map[string]string{}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		found[name] = value
	}
	return found
}

func read(pool io.Reader) (byte, []byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(pool, header[:]); err != nil {
		return 0, nil, err
	}
	content := make([]byte, binary.BigEndian.Uint32(header[1:]))
	_, err := io.ReadFull(pool, content)
	return header[0], content, err
}

// relay says what the process says until it has ended, and then ends as it did.
func relay(pool net.Conn, signals <-chan os.Signal) {
	go func() {
		for one := range signals {
			pool.Write([]byte{byte(one.(syscall.Signal))})
		}
	}()
	go watchEngine(func() {
		pool.Write([]byte{engineGone})
		os.Exit(1)
	})
	for {
		kind, content, err := read(pool)
		switch {
		case err != nil:
			os.Exit(1)
		case kind == stdout:
			os.Stdout.Write(content)
		case kind == stderr:
			os.Stderr.Write(content)
		case kind == ended:
			os.Exit(int(content[0]))
		}
	}
}

// watchEngine calls gone when whoever started this is gone: it holds the other end of stdin, and is the parent unless
// a shell stands in between.
func watchEngine(gone func()) {
	if facts, err := os.Stdin.Stat(); err == nil && facts.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0 {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			gone()
		}()
	}
	parent := os.Getppid()
	for range time.Tick(parentPoll) {
		if os.Getppid() != parent {
			gone()
		}
	}
}
