package images

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const testName = "docker.io/library/heddle-sample:test"

// sample is an image with a program and a link.
func sample(t *testing.T, content string) Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return Image{
		Name: testName, Entrypoint: []string{"/usr/bin/program"}, User: "1337:1337",
		Layers: []Layer{base(), {{Path: "/usr/bin/program", Source: program}, {Path: "/program", Link: "usr/bin/program"}}},
	}
}

func write(t *testing.T, dir string, image Image) string {
	t.Helper()
	path, err := Write(dir, image)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAnImageHoldsItsFilesAndHowToRun(t *testing.T) {
	img, err := tarball.ImageFromPath(write(t, t.TempDir(), sample(t, "#!")), nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Config.User != "1337:1337" || !slices.Equal(config.Config.Entrypoint, []string{"/usr/bin/program"}) {
		t.Errorf("the configuration is %+v", config.Config)
	}
	reader := mutate.Extract(img)
	defer reader.Close()
	var got []string
	for files := tar.NewReader(reader); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, header.FileInfo().Mode().String()+" "+header.Name+header.Linkname)
	}
	slices.Sort(got)
	// Each folder once, whether it was named or follows from a file.
	want := []string{
		"-rwxr-xr-x usr/bin/program", "Lrwxr-xr-x programusr/bin/program",
		"drwxr-xr-x usr/", "drwxr-xr-x usr/bin/", "dtrwxrwxrwx tmp/",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, trimmed(got)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// trimmed makes folder names end in a slash, which Extract drops.
func trimmed(files []string) []string {
	for i, f := range files {
		if strings.HasPrefix(f, "d") && !strings.HasSuffix(f, "/") {
			files[i] = f + "/"
		}
	}
	slices.Sort(files)
	return files
}

func TestTheSameImageIsNotWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	first := write(t, dir, sample(t, "one"))
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	// The same content, in another file of another age.
	second := write(t, dir, sample(t, "one"))
	after, err := os.Stat(second)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || !os.SameFile(before, after) {
		t.Errorf("%s was written anew as %s", first, second)
	}
	if third := write(t, dir, sample(t, "two")); third == first {
		t.Errorf("another program gave the same image %s", third)
	}
}

func TestFormsOfAnImageThatNobodyAskedForGo(t *testing.T) {
	dir := t.TempDir()
	old, recent := write(t, dir, sample(t, "old")), write(t, dir, sample(t, "recent"))
	longAgo := time.Now().Add(-keep - time.Hour)
	if err := os.Chtimes(old, longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	write(t, dir, sample(t, "new"))
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", old, err)
	}
	if _, err := os.Stat(recent); err != nil {
		t.Error(err)
	}
}

func TestAFileThatIsMissingIsNamed(t *testing.T) {
	image := Image{Name: testName, Layers: []Layer{{{Path: "/bin/gone", Source: "/does/not/exist"}}}}
	if _, err := Write(t.TempDir(), image); err == nil || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("got %v", err)
	}
}

func TestAnUnknownImageIsRefused(t *testing.T) {
	_, err := Build(t.Context(), Options{Names: []string{"docker.io/library/nginx:test"}, Cache: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "nginx") {
		t.Errorf("got %v", err)
	}
}

func TestTheImagesOfTheMeshAreWhereTheChartLooksForThem(t *testing.T) {
	values, err := os.ReadFile("../../deploy/heddle/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for short, name := range map[string]string{"heddle": Heddle, "heddle-proxy": Proxy} {
		registry, ok := strings.CutSuffix(name, "/"+short+":test")
		if !ok || !strings.Contains(string(values), "\n  registry: "+registry+"\n") {
			t.Errorf("the chart's default is not the registry of %s", name)
		}
		if got := Full(short); got != name {
			t.Errorf("%s is %s, not %s", short, got, name)
		}
	}
	if got := Full("nginx"); got != "nginx" {
		t.Errorf("nginx is %s", got)
	}
}

func TestProgramsThatMakeBuildsAreOfTheVersionOfTheImages(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if want := "\nVERSION ?= " + Version + "\n"; !strings.Contains(string(makefile), want) {
		t.Errorf("the Makefile does not say %q", want)
	}
}
