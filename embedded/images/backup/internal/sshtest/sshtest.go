// Package sshtest is a store's SSH server in the test's own process.
package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
)

// ErrCut makes the server end the connection without a word.
var ErrCut = errors.New("cut")

// Handle is the forced command; the error that it ends with is told as command receive tells it.
type Handle func(command string, channel io.ReadWriter) error

// Server is one that runs until the test's end.
type Server struct{ address, hostKey string }

// Serve starts one. A folder that the handle works in must be made before, so that it goes after the last handle's end.
func Serve(t *testing.T, handle Handle) Server {
	t.Helper()
	_, private := newKey(t)
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var talking sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		talking.Wait()
	})
	talking.Go(func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			talking.Go(func() { talk(connection, config, handle) })
		}
	})
	return Server{listener.Addr().String(), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}
}

// Environment is the settings with a prefix by which a program reaches the server, see client.Environment.Store.
func (s Server) Environment(t *testing.T, prefix string) map[string]string {
	t.Helper()
	block, _ := newKey(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{prefix + "HOST": host, prefix + "PORT": port, prefix + "HOST_KEY": s.hostKey, prefix + "KEY_FILE": key}
}

func newKey(t *testing.T) (*pem.Block, ed25519.PrivateKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return block, private
}

func talk(connection net.Conn, config *ssh.ServerConfig, handle Handle) {
	_, channels, requests, err := ssh.NewServerConn(connection, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	var commands sync.WaitGroup
	defer commands.Wait()
	for offered := range channels {
		channel, asked, err := offered.Accept()
		if err != nil {
			return
		}
		commands.Go(func() {
			for request := range asked {
				request.Reply(request.Type == "exec", nil)
				if request.Type != "exec" {
					continue
				}
				status := []byte{0, 0, 0, 0}
				if err := handle(string(request.Payload[4:]), channel); errors.Is(err, ErrCut) {
					connection.Close()
					return
				} else if err != nil {
					fmt.Fprintf(channel.Stderr(), "Store: %s.\n", err)
					status[3] = 1
				}
				channel.SendRequest("exit-status", false, status)
				channel.Close()
			}
		})
	}
}
