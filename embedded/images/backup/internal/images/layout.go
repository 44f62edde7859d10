// Package images copies a folder of the fleet's image registry (CNCF distribution, driver filesystem) to
// another host, in such an order that what a tag leads to is whole there at every moment. A manifest that is named by
// its digest alone may come a run after the index that lists it.
//
// The registry keeps content once, as blobs, and names it by links: small files that hold a blob's digest.
// A push makes the blobs first, then the layers' links, the manifest's, and the tag's last.
package images

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// rank is a file's place in a push: what a file leads to has lower ranks.
type rank int

const (
	blob rank = iota
	layer
	revision
	index
	tag
)

const (
	folder       = "docker/registry/v2"
	repositories = folder + "/repositories"
	maxLinkBytes = 4 << 10
	digestPrefix = "sha256:"
)

var (
	digestPattern = regexp.MustCompile(`^` + digestPrefix + `[0-9a-f]{64}$`)
	// The groups are the ranks in their order. No part of a path that fits can be "..", and none a name that
	// the registry or this package gives to what is unfinished.
	pathPattern = regexp.MustCompile(`^` + folder + `/(?:` +
		`(blobs/sha256/[0-9a-f]{2}/[0-9a-f]{64}/data)|repositories/(?:[a-z0-9][a-z0-9._-]*/)+(?:` +
		`(_layers/sha256/[0-9a-f]{64})|` +
		`(_manifests/revisions/sha256/[0-9a-f]{64})|` +
		`(_manifests/tags/[A-Za-z0-9_][A-Za-z0-9._-]*/index/sha256/[0-9a-f]{64})|` +
		`(_manifests/tags/[A-Za-z0-9_][A-Za-z0-9._-]*/current))/link)$`)
)

// rankOf answers false for everything that no mirror carries: uploads, temporary names, foreign files.
func rankOf(path string) (rank, bool) {
	groups := pathPattern.FindStringSubmatch(path)
	if groups == nil {
		return 0, false
	}
	found := rank(slices.IndexFunc(groups[1:], func(group string) bool { return group != "" }))
	return found, found != blob || path == blobPath(blobDigest(path))
}

// blobDigest is the digest that a blob's path names.
func blobDigest(blob string) string { return digestPrefix + path.Base(path.Dir(blob)) }

// blobPath is where the blob with a digest lies.
func blobPath(digest string) string {
	hash := strings.TrimPrefix(digest, digestPrefix)
	return folder + "/blobs/sha256/" + hash[:2] + "/" + hash + "/data"
}

// walk visits the files that have a rank. One that vanishes meanwhile was not there.
func walk(root *os.Root, below string, visit func(path string, rank rank) error) error {
	return fs.WalkDir(root.FS(), below, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == "_uploads" {
			return fs.SkipDir
		}
		if rank, ok := rankOf(path); err == nil && ok && entry.Type().IsRegular() {
			err = visit(path, rank)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}
