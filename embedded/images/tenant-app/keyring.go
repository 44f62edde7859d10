package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	keyBytes     = 32
	nonceBytes   = 12
	tagBytes     = 16
	sealFormat   = 1
	sealedHeader = 1 + 4

	keyFilePrefix = "settings-"
	activeFile    = "active"
)

// ErrNotOurs means that a sealed value was not made with this key for this tenant and name, or was changed.
var ErrNotOurs = errors.New("the value must be sealed with this tenant's key for this name, got another one")

// Keyring holds the tenant's field keys by version.
//
// Its folder has a file "settings-<version>" for each key (32 bytes: raw, hexadecimal or base64) and a file
// "active" with the version that new values are sealed with.
type Keyring struct {
	active uint32
	keys   map[uint32]cipher.AEAD
	ids    map[uint32]string
}

// ReadKeyring reads the folder. A keyring is read anew where it is used, so that a rotated Secret takes
// effect without a restart.
func ReadKeyring(folder string) (*Keyring, error) {
	files, err := filepath.Glob(filepath.Join(folder, keyFilePrefix+"*"))
	if err != nil {
		return nil, err
	}
	ring := &Keyring{keys: map[uint32]cipher.AEAD{}, ids: map[uint32]string{}}
	for _, file := range files {
		version, err := parseVersion(strings.TrimPrefix(filepath.Base(file), keyFilePrefix))
		if err != nil {
			return nil, fmt.Errorf("key file %q: %w", filepath.Base(file), err)
		}
		key, err := readKey(file)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		if ring.keys[version], err = cipher.NewGCM(block); err != nil {
			return nil, err
		}
		ring.ids[version] = keyID(key)
	}
	text, err := os.ReadFile(filepath.Join(folder, activeFile))
	if err != nil {
		return nil, fmt.Errorf("keyring %q: must have a file %q, got none; write the active version into it", folder, activeFile)
	}
	if ring.active, err = parseVersion(strings.TrimSpace(string(text))); err != nil {
		return nil, fmt.Errorf("keyring %q: %w", folder, err)
	}
	if _, ok := ring.keys[ring.active]; !ok {
		return nil, fmt.Errorf("keyring %q: must hold the active key %d, got %v; add its file", folder, ring.active, ring.Versions())
	}
	return ring, nil
}

// Active is the version that new values are sealed with.
func (k *Keyring) Active() uint32 { return k.active }

// Has tells whether the keyring holds this version.
func (k *Keyring) Has(version uint32) bool { return k.keys[version] != nil }

// Versions are those that the keyring holds, in order.
func (k *Keyring) Versions() []uint32 {
	versions := make([]uint32, 0, len(k.keys))
	for version := range k.keys {
		versions = append(versions, version)
	}
	slices.Sort(versions)
	return versions
}

// ID names a key without telling anything about it.
func (k *Keyring) ID(version uint32) string { return k.ids[version] }

// Seal encrypts with AES-256-GCM under the active key. The result starts with a format byte and the
// key's version, then a random nonce; tenant, name and version are authenticated with it.
func (k *Keyring) Seal(tenant, name string, plaintext []byte) []byte {
	sealed := make([]byte, sealedHeader+nonceBytes, sealedHeader+nonceBytes+len(plaintext)+tagBytes)
	sealed[0] = sealFormat
	binary.BigEndian.PutUint32(sealed[1:], k.active)
	nonce := sealed[sealedHeader:]
	rand.Read(nonce)
	return k.keys[k.active].Seal(sealed, nonce, plaintext, associated(tenant, name, k.active))
}

// Open decrypts what Seal made. It fails with ErrNotOurs for anything else.
func (k *Keyring) Open(tenant, name string, sealed []byte) ([]byte, error) {
	version, err := SealedVersion(sealed)
	if err != nil {
		return nil, err
	}
	key, ok := k.keys[version]
	if !ok {
		return nil, fmt.Errorf("the keyring must hold key %d, got %v: %w", version, k.Versions(), ErrNotOurs)
	}
	nonce := sealed[sealedHeader : sealedHeader+nonceBytes]
	plaintext, err := key.Open(nil, nonce, sealed[sealedHeader+nonceBytes:], associated(tenant, name, version))
	if err != nil {
		return nil, ErrNotOurs
	}
	return plaintext, nil
}

// SealedVersion is the version of the key that a sealed value was made with.
func SealedVersion(sealed []byte) (uint32, error) {
	if len(sealed) < sealedHeader+nonceBytes+tagBytes || sealed[0] != sealFormat {
		return 0, ErrNotOurs
	}
	return binary.BigEndian.Uint32(sealed[1:]), nil
}

// associated is injective: each part carries its length, so no two tenants and names give the same bytes.
func associated(tenant, name string, version uint32) []byte {
	data := []byte("fluxbilling/settings/v1")
	for _, part := range []string{tenant, name} {
		data = binary.BigEndian.AppendUint32(data, uint32(len(part)))
		data = append(data, part...)
	}
	return binary.BigEndian.AppendUint32(data, version)
}

func readKey(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("key file %q: must be readable, got none; mount the Secret", filepath.Base(file))
	}
	if len(content) == keyBytes {
		return content, nil
	}
	text := strings.TrimSpace(string(content))
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
	} {
		if key, err := decode(text); err == nil && len(key) == keyBytes {
			return key, nil
		}
	}
	return nil, fmt.Errorf("key file %q: must hold %d bytes, raw, hexadecimal or base64, got %d bytes that are neither; derive the key anew", filepath.Base(file), keyBytes, len(content))
}

func parseVersion(text string) (uint32, error) {
	version, err := strconv.ParseUint(text, 10, 31)
	if err != nil || version == 0 || text != strconv.FormatUint(version, 10) {
		return 0, fmt.Errorf("a key version must be a whole number of at least 1, got %q; rename it", text)
	}
	return uint32(version), nil
}

func keyID(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("fluxbilling/key-id/v1"))
	return hex.EncodeToString(mac.Sum(nil))[:16]
}
