package images

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

const (
	// contentDigest is of "content".
	contentDigest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
	contentLink   = repositories + "/fleet/_layers/sha256/ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73/link"
)

type entry struct {
	header  tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}, content}
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var stream bytes.Buffer
	writer := tar.NewWriter(&stream)
	for _, entry := range entries {
		if err := writer.WriteHeader(&entry.header); err != nil {
			t.Fatal(err)
		}
		io.WriteString(writer, entry.content)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return stream.Bytes()
}

func serve(root, command string, stream []byte) (string, error) {
	var answer bytes.Buffer
	asked := asking(root, command)
	asked.MaxBytes = 5000
	err := Serve(asked, bytes.NewReader(stream), &answer)
	return answer.String(), err
}

func TestTakeAnswersWhatListThenShows(t *testing.T) {
	target := newRegistry(t)
	large := strings.Repeat("x", maxLinkBytes+1)
	largePath := blobPath(digestPrefix + hashOf([]byte(large)))
	stream := tarOf(t, file(largePath, large), file(blobPath(contentDigest), "content"), file(contentLink, contentDigest))
	if got, err := serve(target.root, "take", stream); err != nil || got != `{"files":3,"bytes":4175}`+"\n" {
		t.Fatalf("got %s, %v", got, err)
	}
	target.write(repositories+"/fleet/_uploads/1/data", "x")
	target.write(strings.Replace(contentLink, "/link", "/"+unfinishedPrefix+"link", 1), "x")
	want := "4097 - " + largePath + "\n" +
		"7 " + contentDigest[len(digestPrefix):] + " " + blobPath(contentDigest) + "\n" +
		"71 " + hashOf([]byte(contentDigest)) + " " + contentLink + "\n"
	if got, err := serve(target.root, "list", nil); err != nil || got != want {
		t.Fatalf("got %s, %v, want %s", got, err, want)
	}
	// Again: blobs are passed over, links replaced.
	if got, err := serve(target.root, "take", stream); err != nil || got != `{"files":1,"bytes":71}`+"\n" {
		t.Fatalf("got %s, %v", got, err)
	}
}

func TestTakeOfAnEmptyTarTakesNothing(t *testing.T) {
	target := newRegistry(t)
	if got, err := serve(target.root, "take", tarOf(t)); err != nil || got != `{"files":0,"bytes":0}`+"\n" || len(target.files()) != 0 {
		t.Fatalf("got %s, %v", got, err)
	}
}

func TestTakeRefuses(t *testing.T) {
	content := file(blobPath(contentDigest), "content")
	typed := func(kind byte, name, linkName string) entry {
		return entry{tar.Header{Typeflag: kind, Name: name, Linkname: linkName}, ""}
	}
	notIts := `must be a registry's blob or link below docker/registry/v2, got another; send only those`
	cases := map[string]struct {
		entry entry
		want  string
	}{
		"an absolute path":        {file("/"+blobPath(contentDigest), "content"), notIts},
		"a path up":               {file("docker/registry/v2/../../../etc/passwd", "content"), notIts},
		"a path up in a name":     {file(repositories+"/../_layers/sha256/"+contentDigest[len(digestPrefix):]+"/link", contentDigest), notIts},
		"a path up to a blob":     {file(repositories+"/../blobs/sha256/ed/"+contentDigest[len(digestPrefix):]+"/data", "content"), notIts},
		"a doubled slash":         {file(strings.Replace(contentLink, "/fleet/", "/fleet//", 1), contentDigest), notIts},
		"a foreign path":          {file("docker/registry/v3/data", "content"), notIts},
		"an upload":               {file(repositories+"/fleet/_uploads/1/data", "content"), notIts},
		"a temporary name":        {file(strings.Replace(contentLink, "/link", "/"+unfinishedPrefix+"link", 1), contentDigest), notIts},
		"another character":       {file(strings.Replace(contentLink, "/fleet/", "/flé et/", 1), contentDigest), notIts},
		"a line's end":            {file(contentLink+"\n", contentDigest), notIts},
		"a blob in another place": {file(strings.Replace(blobPath(contentDigest), "/ed/", "/00/", 1), "content"), notIts},
		"a folder":                {typed(tar.TypeDir, "docker/registry/v2/", ""), notIts},
		"a symbolic link":         {typed(tar.TypeSymlink, contentLink, "/etc/passwd"), `must be a regular file, got tar type '2'; send only those`},
		"a hard link":             {typed(tar.TypeLink, contentLink, "/etc/passwd"), `must be a regular file, got tar type '1'; send only those`},
		"a device":                {typed(tar.TypeChar, contentLink, ""), `must be a regular file, got tar type '3'; send only those`},
		"a large blob":            {file(blobPath(digestPrefix+hashOf(make([]byte, 5001))), string(make([]byte, 5001))), "must hold at most 5000 bytes, got 5001; make the image's layer smaller"},
		"a large link":            {file(contentLink, string(make([]byte, 4097))), "must hold at most 4096 bytes, got 4097; make the image's layer smaller"},
		"another content":         {file(blobPath(contentDigest), "contenu"), "must have the digest in its path, got sha256:"},
		"a link to nowhere":       {file(contentLink, digestPrefix+strings.Repeat("0", 64)), "must come after its blob, got "},
		"a link of other words":   {file(contentLink, contentDigest+"\n"), "must hold a sha256 digest, got "},
	}
	for name, refused := range cases {
		t.Run(name, func(t *testing.T) {
			target := newRegistry(t)
			before := content
			if refused.entry.header.Name == content.header.Name {
				before = file(blobPath(digestPrefix+hashOf(nil)), "")
			}
			answer, err := serve(target.root, "take", tarOf(t, before, refused.entry))
			if err == nil || !strings.Contains(err.Error(), refused.want) || strings.Contains(err.Error(), "\n") || answer != "" {
				t.Fatalf("got %q, %v, want %s", answer, err, refused.want)
			}
			// What came before it counts, and only that.
			if files := target.files(); len(files) != 1 || files[before.header.Name] != before.content {
				t.Fatalf("got %v", files)
			}
		})
	}
}

func TestTakeRefusesACutAnywhere(t *testing.T) {
	zeros := string(make([]byte, 3*512))
	whole := tarOf(t, file(blobPath(contentDigest), "content"), file(blobPath(digestPrefix+hashOf([]byte(zeros))), zeros))
	target := newRegistry(t)
	for length := 0; length < len(whole); length += 3 {
		if _, err := serve(target.root, "take", whole[:length]); err == nil || err.Error() != "stream: must be a tar with its end, got a cut one; the next run goes on" {
			t.Fatalf("cut at %d of %d: got %v", length, len(whole), err)
		}
		target.mustBeWhole()
		target.mustHoldNothingUnfinished()
	}
}

func TestTakeWritesOverWhatAKilledOneLeft(t *testing.T) {
	target := newRegistry(t)
	target.write(strings.Replace(blobPath(contentDigest), "/data", "/"+unfinishedPrefix+"data", 1), "some longer content, half of it")
	if _, err := serve(target.root, "take", tarOf(t, file(blobPath(contentDigest), "content"))); err != nil {
		t.Fatal(err)
	}
	target.mustBeWhole()
	target.mustHoldNothingUnfinished()
}

func TestTakeNeverOverwritesABlob(t *testing.T) {
	target := newRegistry(t)
	for held, want := range map[string]string{
		// Rotten, but of the same size: not looked at.
		"CONTENT": "",
		"c":       `blob "` + blobPath(contentDigest) + `": must have the 1 bytes that it has here, got 7; find out which of them is spoilt`,
	} {
		target.write(blobPath(contentDigest), held)
		_, err := serve(target.root, "take", tarOf(t, file(blobPath(contentDigest), "content")))
		if (err == nil) != (want == "") || err != nil && err.Error() != want || target.read(blobPath(contentDigest)) != held {
			t.Fatalf("got %v, %s", err, target.read(blobPath(contentDigest)))
		}
	}
}

func TestTakesComeOneByOne(t *testing.T) {
	target := newRegistry(t)
	input, output := io.Pipe()
	first := make(chan error, 1)
	go func() { first <- Serve(asking(target.root, "take"), input, io.Discard) }()
	stream := tarOf(t, file(blobPath(contentDigest), "content"))
	// Once the first has read something, it has the folder.
	output.Write(stream[:1])
	if _, err := serve(target.root, "take", stream); err == nil || !strings.HasPrefix(err.Error(), "take: must be the only one on this folder, got ") {
		t.Fatalf("got %v", err)
	}
	output.Write(stream[1:])
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	target.mustBeWhole()
}

func TestTakeEndsWhenNothingComes(t *testing.T) {
	target := newRegistry(t)
	input, output := io.Pipe()
	defer output.Close()
	asked := asking(target.root, "take")
	asked.IdleTimeout = time.Millisecond
	err := Serve(asked, input, io.Discard)
	if err == nil || err.Error() != "stream: must bring something at least every 1ms, got nothing; the next run goes on" {
		t.Fatalf("got %v", err)
	}
}

func TestServeRefusesOtherCommands(t *testing.T) {
	for _, command := range []string{"", "sh", "list x", "take\n", "receive acme x", "prune"} {
		if _, err := serve(newRegistry(t).root, command, nil); err == nil || !strings.HasPrefix(err.Error(), "command: must be list or take, got ") {
			t.Errorf("%q: got %v", command, err)
		}
	}
}
