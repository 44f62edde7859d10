package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

func asFailure(err error) (*Failure, bool) {
	var failure *Failure
	ok := errors.As(err, &failure)
	return failure, ok
}

// Environment reads a program's settings and remembers what is wrong with them. No error holds a secret's value.
type Environment struct {
	lookup func(string) (string, bool)
	faults []error
}

// ReadEnvironment reads by lookup: os.LookupEnv in earnest.
func ReadEnvironment(lookup func(string) (string, bool)) *Environment {
	return &Environment{lookup: lookup}
}

// Failure is the first fault, nil where all settings are right.
func (e *Environment) Failure() error {
	if len(e.faults) == 0 {
		return nil
	}
	return &Failure{Kind: KindSettings, err: e.faults[0]}
}

// Fault notes that a setting is wrong.
func (e *Environment) Fault(format string, values ...any) {
	e.faults = append(e.faults, fmt.Errorf(format, values...))
}

// Text is a setting of one line; an empty default makes it one that must be given.
func (e *Environment) Text(name, otherwise string) string {
	value, ok := e.lookup(name)
	if !ok || value == "" {
		value = otherwise
	}
	if value == "" || strings.ContainsAny(value, "\n\x00") {
		e.Fault("setting %q: must be one line of text, got %q; set it in the CronJob", name, value)
	}
	return value
}

// Port is a TCP port.
func (e *Environment) Port(name, otherwise string) string {
	value := e.Text(name, otherwise)
	if number, err := strconv.Atoi(value); err != nil || number < 1 || number > 65535 {
		e.Fault("setting %q: must be a port from 1 to 65535, got %q; set it in the CronJob", name, value)
	}
	return value
}

// File is the content of the file that a setting names.
func (e *Environment) File(name, otherwise string) []byte {
	path := e.Text(name, otherwise)
	content, err := os.ReadFile(path)
	if err != nil || len(bytes.TrimSpace(content)) == 0 {
		e.Fault("setting %q: must name a file with content, got %q; mount the Secret there", name, path)
	}
	return content
}

// Store is how to reach a store, from the settings with a prefix:
//
//	<prefix>HOST, <prefix>PORT    its SSH; port default 22
//	<prefix>USER                  default backup
//	<prefix>HOST_KEY              its host key, as in known_hosts without the name: "ssh-ed25519 AAAA…"
//	<prefix>KEY_FILE              OpenSSH private key, ed25519; default keyFile
//	<prefix>CERTIFICATE_FILE      OpenSSH certificate for that key, where the store trusts an authority; default none
func (e *Environment) Store(prefix, keyFile string) Store {
	store := Store{
		Host:   e.Text(prefix+"HOST", ""),
		Port:   e.Port(prefix+"PORT", "22"),
		User:   e.Text(prefix+"USER", "backup"),
		prefix: prefix,
	}
	hostKey := e.Text(prefix+"HOST_KEY", "")
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(hostKey))
	if hostKey != "" && (err != nil || len(rest) != 0) {
		e.Fault("setting %q: must be one public key like \"ssh-ed25519 AAAA…\", got %.40q; copy it from the store's known_hosts line", prefix+"HOST_KEY", hostKey)
	}
	store.hostKey = key
	content := e.File(prefix+"KEY_FILE", keyFile)
	if len(bytes.TrimSpace(content)) == 0 {
		return store
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil || signer.PublicKey().Type() != ssh.KeyAlgoED25519 {
		e.Fault("setting %q: must hold an ed25519 private key in OpenSSH format without passphrase, got something else; make it with ssh-keygen -t ed25519 -N ''", prefix+"KEY_FILE")
		return store
	}
	store.key = signer
	if path, ok := e.lookup(prefix + "CERTIFICATE_FILE"); ok && path != "" {
		store.key = e.certified(prefix+"CERTIFICATE_FILE", signer, path)
	}
	return store
}

// certified makes the key show the certificate in the file.
func (e *Environment) certified(setting string, key ssh.Signer, path string) ssh.Signer {
	content, err := os.ReadFile(path)
	if err != nil {
		e.Fault("setting %q: must name a file with content, got %q; mount the Secret there", setting, path)
		return key
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(content)
	certificate, ok := public.(*ssh.Certificate)
	if err != nil || !ok {
		e.Fault("setting %q: must name an OpenSSH certificate, got another content in %q; sign the public key with ssh-keygen -s", setting, path)
		return key
	}
	signer, err := ssh.NewCertSigner(certificate, key)
	if err != nil {
		e.Fault("setting %q: must be for the key beside it, got one for another key in %q; sign that key's public half", setting, path)
		return key
	}
	return signer
}
