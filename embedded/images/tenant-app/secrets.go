package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const minSecretBytes = 32

// Secrets are the random part of the tenant contract, newest first: the first one signs, all of them verify.
//
// Its folder has the files "session", "token" and "webhook" of at least 32 bytes each and, while one is
// being rotated, "<name>-previous".
type Secrets struct {
	// Session signs session cookies.
	Session [][]byte
	// Token opens the operator's routes: the bearer token is the file's content in base64, which is also
	// how the cluster's API shows it.
	Token [][]byte
	// Webhook signs what the tenant tells others: usage reports.
	Webhook [][]byte
}

// ReadSecrets reads the folder. Secrets are read anew where they are used, so that a rotation takes
// effect without a restart.
func ReadSecrets(folder string) (Secrets, error) {
	var secrets Secrets
	for name, target := range map[string]*[][]byte{
		"session": &secrets.Session, "token": &secrets.Token, "webhook": &secrets.Webhook,
	} {
		current, err := readSecret(filepath.Join(folder, name))
		if err != nil {
			return Secrets{}, err
		}
		*target = [][]byte{current}
		previous, err := readSecret(filepath.Join(folder, name+"-previous"))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Secrets{}, err
		}
		*target = append(*target, previous)
	}
	return secrets, nil
}

// isOperator tells whether a bearer token is the operator's. Hashes are compared, so that neither
// length nor content shows in the time.
func (s Secrets) isOperator(token string) bool {
	given := sha256.Sum256([]byte(token))
	found := 0
	for _, secret := range s.Token {
		wanted := sha256.Sum256([]byte(base64.StdEncoding.EncodeToString(secret)))
		found |= subtle.ConstantTimeCompare(given[:], wanted[:])
	}
	return found == 1
}

func readSecret(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("secret %q: must be a readable file, got none; mount the Secret there: %w", path, err)
	}
	if len(content) < minSecretBytes {
		return nil, fmt.Errorf("secret %q: must have at least %d bytes, got %d; make a longer one", path, minSecretBytes, len(content))
	}
	return content, nil
}
