package source

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Paths as phones, cameras, chats and computers have them. R05 R06 R07 R09
var known = []struct {
	path, source string
	confidence   Confidence
	taken        string // RFC 3339; without Z: a wall clock's; "": none
}{
	// WeChat
	{"Pictures/WeiXin/mmexport1451181351065.jpg", WeChat, Folder, "2015-12-27T01:55:51.065Z"},
	{"Pictures/WeiXin/1543212345678.mp4", WeChat, Folder, ""},
	{"mmexport1598266474988.png", WeChat, Name, "2020-08-24T10:54:34.988Z"},
	{"MMEXPORT1598266474988.PNG", WeChat, Name, "2020-08-24T10:54:34.988Z"},
	{"mmexport673f7593af33172f9497aefc2d94d6c5.jpeg", WeChat, Name, ""},
	{"mmexporteb7b2a858123a721c3c4bc5636c90756_1660142644280.jpeg", WeChat, Name, "2022-08-10T14:44:04.28Z"},
	{"DCIM/Camera/mmexport1598266474988.png", WeChat, Name, "2020-08-24T10:54:34.988Z"},
	{"DCIM/Camera/wx_camera_1491222151366.jpg", WeChat, Name, "2017-04-03T12:22:31.366Z"},
	{"Download/微信图片_20260501123000.jpg", WeChat, Name, "2026-05-01T12:30:00"},
	{"桌面/微信图片_20240730140000_12_340.jpg", WeChat, Name, "2024-07-30T14:00:00"},
	{"微信截图_20240730140000.png", WeChat, Name, "2024-07-30T14:00:00"},
	{"微信图片_未命名.jpg", WeChat, Name, ""},
	{"WeChat Image_20240730140000.jpg", WeChat, Name, "2024-07-30T14:00:00"},
	{"Tencent/MicroMsg/WeiXin/a.jpg", WeChat, Folder, ""},
	{"storage/emulated/0/Android/data/com.tencent.mm/MicroMsg/Download/合同.pdf", WeChat, Folder, ""},
	{"Download/WeiXin/report.pdf", WeChat, Folder, ""},
	{`C:\Users\ada\Documents\WeChat Files\wxid_1\FileStorage\Image\2024-01\a.dat`, WeChat, Folder, ""},
	{"Documents/xwechat_files/wxid/msg/video/a.mp4", WeChat, Folder, ""},
	{"InstantUpload/WeiXin/2026/05/x.jpg", WeChat, Folder, ""},
	{"Pictures/微信/a.jpg", WeChat, Folder, ""},
	{"notes/wechat/design.md", WeChat, Guess, ""},
	{"Pictures/WeiXin/Screenshot_20240101-120000.png", WeChat, Folder, "2024-01-01T12:00:00"},

	// QQ, TIM
	{"Tencent/QQ_Images/a.jpg", QQ, Folder, ""},
	{"Tencent/QQfile_recv/x.zip", QQ, Folder, ""},
	{"tencent/MobileQQ/shortvideo/a.mp4", QQ, Folder, ""},
	{"Pictures/QQ/-1a2b3c.jpg", QQ, Folder, ""},
	{"Android/data/com.tencent.mobileqq/Tencent/QQfile_recv/x.doc", QQ, Folder, ""},
	{"Tencent Files/12345/FileRecv/x.doc", QQ, Folder, ""},
	{"QQ图片20260501123000.jpg", QQ, Name, "2026-05-01T12:30:00"},
	{"DCIM/QQ图片20260501123000123.jpg", QQ, Name, "2026-05-01T12:30:00.123"},
	{"qq截图20260501123000.png", QQ, Name, "2026-05-01T12:30:00"},
	{"qq_pic_merged_1598266474988.jpg", QQ, Name, "2020-08-24T10:54:34.988Z"},
	{"Tencent/TIMfile_recv/x.xlsx", TIM, Folder, ""},
	{"Pictures/TIM/a.png", TIM, Folder, ""},
	{"TIM图片20200101120000.png", TIM, Name, "2020-01-01T12:00:00"},
	{"Tencent/other/a", QQ, Guess, ""},

	// Screens
	{"DCIM/Screenshots/Screenshot_20240101-120000.png", Screenshot, Folder, "2024-01-01T12:00:00"},
	{"Pictures/Screenshots/a.png", Screenshot, Folder, ""},
	{"DCIM/截屏/a.png", Screenshot, Folder, ""},
	{"Pictures/截屏录屏/a.mp4", Screenshot, Folder, ""},
	{"DCIM/ScreenRecorder/Screenrecorder-2024-01-01-12-00-00-123.mp4", Screenshot, Folder, "2024-01-01T12:00:00"},
	{"DCIM/Camera/Screenshot_2024-01-01-12-00-00-123_com.tencent.mm.jpg", Screenshot, Name, "2024-01-01T12:00:00"},
	{"Screenshot_20240101_120000_com.huawei.himovie.jpg", Screenshot, Name, "2024-01-01T12:00:00"},
	{"Screenshot 2024-01-01 at 12.00.00.png", Screenshot, Name, "2024-01-01T12:00:00"},
	{"Screen Shot 2024-01-01 at 1.00.00 PM.png", Screenshot, Name, ""},
	{"Screenshot 2024-01-01 120000.png", Screenshot, Name, "2024-01-01T12:00:00"},
	{"截屏2024-01-01 12.00.00.png", Screenshot, Name, "2024-01-01T12:00:00"},
	{"屏幕截图 2024-01-01 120000.png", Screenshot, Name, "2024-01-01T12:00:00"},
	{"SVID_20240101_120000_1.mp4", Screenshot, Name, "2024-01-01T12:00:00"},
	{"RPReplay_Final1704110400.MP4", Screenshot, Name, "2024-01-01T12:00:00Z"},
	{"스크린샷 2024.png", Screenshot, Name, ""},
	{"Capture d’écran 2024.png", Screenshot, Name, ""},
	{"ada/project/doc/screenshots/ui.png", Screenshot, Guess, ""},
	{"IMG_0815.PNG", Screenshot, Guess, ""},

	// Cameras
	{"DCIM/100CANON/IMG_0001.JPG", Camera, Folder, ""},
	{"DCIM/101_FUJI/DSCF0001.RAF", Camera, Folder, ""},
	{"DCIM/101MSDCF/DSC00001.ARW", Camera, Folder, ""},
	{"DCIM/100GOPRO/GX010001.MP4", Camera, Folder, ""},
	{"DCIM/DJI_001/DJI_20240101120000_0001_D.JPG", Camera, Folder, "2024-01-01T12:00:00"},
	{"PRIVATE/M4ROOT/CLIP/C0001.MP4", Camera, Folder, ""},
	{"DCIM/Camera01/VID_20240101_120000_00_001.insv", Camera, Folder, "2024-01-01T12:00:00"},
	{"_MG_1234.CR2", Camera, Name, ""},
	{"IMG_1234.CR3", Camera, Name, ""},
	{"MVI_1234.MOV", Camera, Name, ""},
	{"DSC_0001.JPG", Camera, Guess, ""},

	// Camera rolls
	{"DCIM/Camera/IMG_20260501_123000.jpg", Album, Folder, "2026-05-01T12:30:00"},
	{"DCIM/Camera/PXL_20260501_123000123.MP.jpg", Album, Folder, "2026-05-01T12:30:00.123Z"},
	{"DCIM/Camera/VID20260501123000.mp4", Album, Folder, "2026-05-01T12:30:00"},
	{"DCIM/相机/a.jpg", Album, Folder, ""},
	{"相机/a.jpg", Album, Folder, ""},
	{"DCIM/100APPLE/IMG_0001.HEIC", Album, Folder, ""},
	{"DCIM/202405__/IMG_0001.MOV", Album, Folder, ""},
	{"DCIM/100ANDRO/DSC_0001.JPG", Album, Folder, ""},
	{"DCIM/a.jpg", Album, Folder, ""},
	{"IMG_20260501_123000.jpg", Album, Name, "2026-05-01T12:30:00"},
	{"IMG_20260501_123000_HDR.jpg", Album, Name, "2026-05-01T12:30:00"},
	{"IMG20260501123000.jpg", Album, Name, "2026-05-01T12:30:00"},
	{"VID_20260501_123000.mp4", Album, Name, "2026-05-01T12:30:00"},
	{"MVIMG_20260501_123000.jpg", Album, Name, "2026-05-01T12:30:00"},
	{"20260501_123000.jpg", Album, Name, "2026-05-01T12:30:00"},
	{"00000IMG_00000_BURST20260501123000123_COVER.jpg", Album, Name, "2026-05-01T12:30:00.123"},
	{"IMG_0001.HEIC", Album, Name, ""},
	{"IMG_E0001.JPG", Album, Name, ""},
	{"IMG_0001.JPG", Album, Guess, ""},
	{"相机胶卷/IMG_0001.MOV", Album, Folder, ""},
	{"Camera Roll/a.mp4", Album, Folder, ""},

	// Downloads
	{"Download/IMG_20260501_123000.jpg", Download, Folder, "2026-05-01T12:30:00"},
	{"/sdcard/Download/a.pdf", Download, Folder, ""},
	{"/home/ada/Downloads/a.pdf", Download, Folder, ""},
	{"下载/a.apk", Download, Folder, ""},
	{"ダウンロード/a.pdf", Download, Folder, ""},
	{"src/download/main.go", Download, Guess, ""},

	// Nothing speaks for anything
	{"", Other, None, ""},
	{"///", Other, None, ""},
	{"a.jpg", Other, None, ""},
	{"Documents/tax.pdf", Other, None, ""},
	{"WhatsApp/Media/WhatsApp Images/IMG-20240101-WA0001.jpg", Other, None, ""},
	{"mmexport.jpg", Other, None, ""},
	{"mmexport14511813510650.jpg", Other, None, ""},
	{"QQ.exe", Other, None, ""},
	{"weixin", Other, None, ""},
	{"IMG_20261301_123000.jpg", Other, None, ""},
	{"IMG_20260230_123000.jpg", Other, None, ""},
	{"IMG_20260501_246000.jpg", Other, None, ""},
	{"mmexport0000000000001.jpg", Other, None, ""},
}

func TestKnownPaths(t *testing.T) {
	for _, k := range known {
		if s, c := Of(k.path); s != k.source || c != k.confidence {
			t.Errorf("%s: %s by %s; want %s by %s", k.path, s, c, k.source, k.confidence)
		}
		got := ""
		if c, ok := Taken(k.path); ok {
			got = c.Time.Format("2006-01-02T15:04:05.999Z07:00")
			if c.Local {
				got = strings.TrimSuffix(got, "Z")
			}
		}
		if got != k.taken {
			t.Errorf("%s: taken %q; want %q", k.path, got, k.taken)
		}
	}
}

// Whatever the device's way of writing, the answer is the same.
func TestSpelling(t *testing.T) {
	for _, k := range known {
		for _, spelling := range []string{
			norm.NFC.String(k.path), norm.NFD.String(k.path), strings.ToUpper(k.path), strings.ToLower(norm.NFD.String(k.path)),
			strings.ReplaceAll(k.path, "/", `\`), "/" + k.path, strings.ReplaceAll(k.path, "/", "//"),
		} {
			if s, c := Of(spelling); s != k.source || c != k.confidence {
				t.Errorf("%q: %s by %s; as %q: %s by %s", k.path, k.source, k.confidence, spelling, s, c)
			}
		}
	}
}

// Each word of the tables is found however its accents are written.
func TestTablesAreFolded(t *testing.T) {
	var words []string
	for _, r := range folders {
		words = append(words, r.folders)
	}
	for w := range screenFolders {
		words = append(words, w)
	}
	for w := range chats {
		words = append(words, w)
	}
	for w := range media {
		words = append(words, w)
	}
	for w := range roots {
		words = append(words, w)
	}
	for _, w := range words {
		if got := strings.Join(fold(norm.NFD.String(w)), "/"); got != w {
			t.Errorf("%q is folded to %q: nothing can match it", w, got)
		}
	}
	for _, r := range names {
		if got := compose(norm.NFD.String(r.pattern)); got != r.pattern {
			t.Errorf("%q is composed to %q", r.pattern, got)
		}
		for _, c := range r.pattern {
			if c < utf8.RuneSelf && unicode.IsUpper(c) && !strings.ContainsRune("YMDHISPTENCXZ", c) {
				t.Errorf("%q has the unknown token %c", r.pattern, c)
			}
		}
		if r.source == Other || !slices.Contains(List(), r.source) || r.confidence != Name && r.confidence != Guess {
			t.Errorf("%q says %s by %s", r.pattern, r.source, r.confidence)
		}
	}
}

// Every time that can be is read back as it was written, and no other.
func TestTimesComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		ms := oldest.UnixMilli() + rng.Int64N(newest.UnixMilli()-oldest.UnixMilli())
		at := time.UnixMilli(ms).UTC()
		whole := at.Truncate(time.Second)
		for _, n := range []struct {
			name  string
			want  time.Time
			local bool
		}{
			{"IMG_" + whole.Format("20060102_150405") + ".jpg", whole, true},
			{"微信图片_" + whole.Format("20060102150405") + ".jpg", whole, true},
			{"PXL_" + strings.Replace(at.Format("20060102_150405.000"), ".", "", 1) + ".jpg", at, false},
			{"Screenshot_" + whole.Format("2006-01-02-15-04-05") + "-7_com.tencent.mm.png", whole, true},
		} {
			if c, ok := Taken(n.name); !ok || !c.Time.Equal(n.want) || c.Local != n.local {
				t.Fatalf("%s: %v %v", n.name, c, ok)
			}
		}
		if ms >= 1e12 {
			if c, ok := Taken(fmt.Sprintf("mmexport%d.jpg", ms)); !ok || !c.Time.Equal(at) || c.Local {
				t.Fatalf("mmexport%d: %v %v", ms, c, ok)
			}
		}
	}
}

// What is too long, too deep or no text tells nothing, and costs little.
func TestHostilePaths(t *testing.T) {
	for _, p := range []string{
		strings.Repeat("a", MaxPath+1), strings.Repeat("Pictures/WeiXin/", MaxPath/16+1) + "a.jpg",
		strings.Repeat("\xff", 100), "\x00", "../../../etc/passwd", strings.Repeat("a/", 2000) + "b",
	} {
		if s, c := Of(p); s != Other || c != None {
			t.Errorf("%.40q…: %s by %s", p, s, c)
		}
		if c, ok := Taken(p); ok {
			t.Errorf("%.40q…: %v", p, c)
		}
	}
}

func FuzzOf(f *testing.F) {
	for _, k := range known {
		f.Add(k.path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		s, c := Of(path)
		if !slices.Contains(List(), s) || c == Declared || c.Rank() < 0 || (c == None) != (s == Other) {
			t.Fatalf("%q: %s by %s", path, s, c)
		}
		if s2, c2 := Of(path); s2 != s || c2 != c {
			t.Fatalf("%q: two answers", path)
		}
		if utf8.ValidString(path) && len(path) < MaxPath/4 {
			// A path in the box is in normal form C, a name on a Mac in D. (Accents
			// that are not in the tables may differ, so only what was found counts.)
			if s2, _ := Of(norm.NFD.String(path)); c == Folder && chat(s) && norm.NFC.IsNormalString(path) && s2 != s {
				t.Fatalf("%q: %s, decomposed: %s", path, s, s2)
			}
		}
		if c, ok := Taken(path); ok && (c.Time.Before(oldest) || !c.Time.Before(newest) || c.Time.Location() != time.UTC) {
			t.Fatalf("%q: taken %v", path, c.Time)
		}
	})
}

func BenchmarkOf(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Of("DCIM/Camera/2026/05/some name that nothing matches.jpg")
		Taken("DCIM/Camera/2026/05/some name that nothing matches.jpg")
	}
}
