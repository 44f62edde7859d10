package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	connectTimeout    = 20 * time.Second
	answerTimeout     = 2 * time.Minute
	maxComplaintBytes = 4 << 10
)

// Store is how to reach a store; Environment.Store has checked it.
type Store struct {
	Host string
	Port string
	User string

	hostKey ssh.PublicKey
	key     ssh.Signer
	prefix  string
}

// Connect opens SSH to the store, which must show the pinned host key. The connection ends with ctx.
func (s Store) Connect(ctx context.Context) (*Connection, error) {
	address := net.JoinHostPort(s.Host, s.Port)
	dialer := net.Dialer{Timeout: connectTimeout}
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, Fail(KindStore, "store %q: must answer, got %q; check %sHOST, %sPORT and the network policy", address, err, s.prefix, s.prefix)
	}
	stranger := ""
	pinned := s.hostKey.Marshal()
	connection.SetDeadline(time.Now().Add(connectTimeout))
	channel, channels, requests, err := ssh.NewClientConn(connection, address, &ssh.ClientConfig{
		User:              s.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(s.key)},
		HostKeyAlgorithms: hostKeyAlgorithms(s.hostKey),
		HostKeyCallback: func(_ string, _ net.Addr, shown ssh.PublicKey) error {
			if !bytes.Equal(shown.Marshal(), pinned) {
				stranger = ssh.FingerprintSHA256(shown)
				return errors.New("not the pinned host key")
			}
			return nil
		},
	})
	if err != nil {
		connection.Close()
		if stranger != "" {
			return nil, Fail(KindStore, "store %q: must show the pinned host key %s, got %s; if the store was made anew, pin its new key in %sHOST_KEY",
				address, ssh.FingerprintSHA256(s.hostKey), stranger, s.prefix)
		}
		return nil, Fail(KindStore, "store %q: must take this key for user %q, got %q; check the key's line in authorized_keys, and %sHOST_KEY",
			address, s.User, err, s.prefix)
	}
	connection.SetDeadline(time.Time{})
	opened := &Connection{host: s.Host, client: ssh.NewClient(channel, channels, requests)}
	opened.unwatch = context.AfterFunc(ctx, func() { opened.client.Close() })
	return opened, nil
}

func hostKeyAlgorithms(key ssh.PublicKey) []string {
	if key.Type() == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{key.Type()}
}

// Connection is an open way to a store, on which commands run.
type Connection struct {
	host    string
	client  *ssh.Client
	unwatch func() bool
}

// Close ends the connection and what runs on it.
func (c *Connection) Close() {
	c.unwatch()
	c.client.Close()
}

// Command is one that runs on the store.
type Command struct {
	host      string
	input     io.WriteCloser
	answer    io.Writer
	last      LastBytes
	complaint LastBytes
	// ended is closed once result is what the command ended with: a session's end can be waited for only once.
	ended  chan struct{}
	result error
}

// Start runs a command. What it says goes to answer; where that is nil, its last line is what Confirm compares.
func (c *Connection) Start(line string, answer io.Writer) (*Command, error) {
	session, err := c.client.NewSession()
	if err != nil {
		return nil, Fail(KindStore, "store %q: must open a session, got %q; look at the store's sshd log", c.host, err)
	}
	started := &Command{host: c.host, ended: make(chan struct{})}
	session.Stdout = answer
	if answer == nil {
		session.Stdout = &started.last
	}
	session.Stderr = &started.complaint
	if started.input, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	if err := session.Start(line); err != nil {
		return nil, Fail(KindStore, "store %q: must run the receiver, got %q; check the forced command of the key", c.host, err)
	}
	go func() {
		started.result = session.Wait()
		session.Close()
		close(started.ended)
	}()
	return started, nil
}

// Output runs a command that is sent nothing and answers what it says.
func (c *Connection) Output(line string) (string, error) {
	var answer bytes.Buffer
	command, err := c.Start(line, &answer)
	if err != nil {
		return "", err
	}
	if err := command.Finish(); err != nil {
		return "", err
	}
	return answer.String(), nil
}

// Write sends to the command.
func (c *Command) Write(data []byte) (int, error) { return c.input.Write(data) }

// Failure is what a broken transfer means: the store's own words where it left any.
func (c *Command) Failure(broken error) error {
	c.input.Close()
	if c.wait() != nil && c.hasEnded() && len(c.complaint.bytes) > 0 {
		return Fail(KindRefused, "store %q: must do as asked, got %q", c.host, c.complaint.LastLine())
	}
	return Fail(KindStore, "store %q: must stay connected, got %q; the next run starts anew", c.host, broken)
}

// Finish sends nothing more and waits for the command's good end, as long as the connection lasts.
func (c *Command) Finish() error {
	if err := c.input.Close(); err != nil && !errors.Is(err, io.EOF) {
		return c.Failure(err)
	}
	<-c.ended
	if c.result != nil {
		return c.Failure(c.result)
	}
	return nil
}

// Confirm waits for the store's word that it has the dump with this hash safe.
func (c *Command) Confirm(sum string) error {
	if err := c.input.Close(); err != nil {
		return c.Failure(err)
	}
	if err := c.wait(); err != nil {
		return c.Failure(err)
	}
	if got := strings.TrimSpace(string(c.last.bytes)); got != "stored "+sum {
		return Fail(KindRefused, "store %q: must confirm %q, got %.100q; check the forced command of the key", c.host, "stored "+sum, got)
	}
	return nil
}

func (c *Command) wait() error {
	select {
	case <-c.ended:
		return c.result
	case <-time.After(answerTimeout):
		return fmt.Errorf("no answer within %s", answerTimeout)
	}
}

func (c *Command) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// LastBytes keeps the end of what is written to it.
type LastBytes struct{ bytes []byte }

func (l *LastBytes) Write(data []byte) (int, error) {
	l.bytes = append(l.bytes, data...)
	if surplus := len(l.bytes) - maxComplaintBytes; surplus > 0 {
		l.bytes = l.bytes[surplus:]
	}
	return len(data), nil
}

// LastLine is what a program complained about, in one line.
func (l *LastBytes) LastLine() string {
	lines := bytes.Split(bytes.TrimSpace(l.bytes), []byte("\n"))
	// pg_dump explains an error on the line that has "error:", and adds details and hints after it.
	for _, line := range lines {
		if bytes.Contains(line, []byte("error:")) {
			return string(bytes.TrimSpace(line))
		}
	}
	return string(bytes.TrimSpace(lines[len(lines)-1]))
}
