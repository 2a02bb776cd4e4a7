package source

import "strings"

// A nameRule says what a pattern of file names stands for. Rules are tried in
// their order. How the names look was taken from what the programs write and
// from the tools that people have made to put such files in order.
type nameRule struct {
	pattern    string
	source     string
	confidence Confidence
	utc        bool   // the time in the name is UTC; else it is a wall clock's
	ext        string // if not "": only with one of these endings, each with a space after it
}

func (r *nameRule) match(name string) (c Capture, timed, ok bool) {
	if r.ext != "" {
		i := strings.LastIndexByte(name, '.')
		if i < 0 || strings.ContainsRune(name[i:], ' ') || !strings.Contains(r.ext, name[i:]+" ") {
			return Capture{}, false, false
		}
	}
	c, timed, ok = match(r.pattern, name)
	c.Local = c.Local && !r.utc
	return c, timed, ok
}

const (
	apple   = ".heic .heif .livp " // written by iPhones and nothing else that calls a picture IMG_0001
	moving  = ".mov .mp4 "
	still   = ".jpg .jpeg "
	screens = ".png "
	panoram = ".insv .insp .lrv "
	rawFile = ".cr2 .cr3 .crw .nef .nrw .arw .sr2 .srf .raf .orf .rw2 .rwl .pef .srw .3fr .iiq .x3f .erf .mef .mos "
)

// names are the patterns of file names; see match for how they are written.
var names = []nameRule{
	// WeChat: saved pictures and films, its own camera, its desktop program.
	{pattern: "mmexportT", source: WeChat, confidence: Name},
	{pattern: "mmexportX_T", source: WeChat, confidence: Name},
	{pattern: "mmexportXZ", source: WeChat, confidence: Name},
	{pattern: "thumbmmexportT", source: WeChat, confidence: Name},
	{pattern: "wx_camera_T", source: WeChat, confidence: Name},
	{pattern: "微信图片_YMDHIS", source: WeChat, confidence: Name},
	{pattern: "微信视频YMDHIS", source: WeChat, confidence: Name},
	{pattern: "微信视频_YMDHIS", source: WeChat, confidence: Name},
	{pattern: "微信截图_YMDHIS", source: WeChat, confidence: Name},
	{pattern: "微信图片", source: WeChat, confidence: Name},
	{pattern: "微信视频", source: WeChat, confidence: Name},
	{pattern: "微信截图", source: WeChat, confidence: Name},
	{pattern: "微信圖片_YMDHIS", source: WeChat, confidence: Name},
	{pattern: "wechat image_YMDHIS", source: WeChat, confidence: Name},
	{pattern: "weixin image_YMDHIS", source: WeChat, confidence: Name},
	{pattern: "wechat_YMDHIS", source: WeChat, confidence: Name},
	{pattern: "wechatimgNZ", source: WeChat, confidence: Name},
	{pattern: "micromsg.T", source: WeChat, confidence: Name},
	{pattern: "micromsg.tmp.T", source: WeChat, confidence: Name},
	{pattern: "mmqrcodeT", source: WeChat, confidence: Name},
	{pattern: "thumbmmqrcodeT", source: WeChat, confidence: Name},
	{pattern: "mm_facetoface_collect_qrcode_T", source: WeChat, confidence: Name},
	{pattern: "mm_reward_qrcode_T", source: WeChat, confidence: Name},
	{pattern: "hdimg_X", source: WeChat, confidence: Name},

	// QQ and TIM, by their phones' and desktops' programs.
	{pattern: "qq图片YMDHIS", source: QQ, confidence: Name},
	{pattern: "qq视频YMDHIS", source: QQ, confidence: Name},
	{pattern: "qq截图YMDHIS", source: QQ, confidence: Name},
	{pattern: "qq录屏YMDHIS", source: QQ, confidence: Name},
	{pattern: "qq圖片YMDHIS", source: QQ, confidence: Name},
	{pattern: "qq图片", source: QQ, confidence: Name},
	{pattern: "qq视频", source: QQ, confidence: Name},
	{pattern: "qq截图", source: QQ, confidence: Name},
	{pattern: "qq录屏", source: QQ, confidence: Name},
	{pattern: "qq_pic_merged_T", source: QQ, confidence: Name},
	{pattern: "qq_video_T", source: QQ, confidence: Name},
	{pattern: "tencent_qq_", source: QQ, confidence: Name},
	{pattern: "tim图片YMDHIS", source: TIM, confidence: Name},
	{pattern: "tim视频YMDHIS", source: TIM, confidence: Name},
	{pattern: "tim截图YMDHIS", source: TIM, confidence: Name},
	{pattern: "tim图片", source: TIM, confidence: Name},
	{pattern: "tim视频", source: TIM, confidence: Name},
	{pattern: "tim截图", source: TIM, confidence: Name},

	// Screens: what Android, its makers, iOS, macOS and Windows call them. The
	// name of the program that was on the screen may follow, WeChat's too.
	{pattern: "screenshot_Y-M-D-H-I-S", source: Screenshot, confidence: Name},
	{pattern: "screenshot_YMDPHIS", source: Screenshot, confidence: Name},
	{pattern: "screenshot_Y-M-DPHPIPS", source: Screenshot, confidence: Name},
	{pattern: "screenshot_E", source: Screenshot, confidence: Name},
	{pattern: "screenshot_T", source: Screenshot, confidence: Name},
	{pattern: "screenshot Y-M-D HIS", source: Screenshot, confidence: Name},
	{pattern: "screenshot Y-M-D at H.I.SZ", source: Screenshot, confidence: Name},
	{pattern: "screenshot from Y-M-D H-I-S", source: Screenshot, confidence: Name},
	{pattern: "screen shot Y-M-D at H.I.SZ", source: Screenshot, confidence: Name},
	{pattern: "screenshotPYMDPHIS", source: Screenshot, confidence: Name},
	{pattern: "screenshot_", source: Screenshot, confidence: Name},
	{pattern: "screenshot (", source: Screenshot, confidence: Name},
	{pattern: "screenshot Y-M-D", source: Screenshot, confidence: Name},
	{pattern: "screen shot Y-M-D", source: Screenshot, confidence: Name},
	{pattern: "截屏PYMDPHIS", source: Screenshot, confidence: Name},
	{pattern: "截屏PY-M-D H.I.S", source: Screenshot, confidence: Name},
	{pattern: "截屏PY-M-D", source: Screenshot, confidence: Name},
	{pattern: "截图PYMDPHIS", source: Screenshot, confidence: Name},
	{pattern: "屏幕截图 Y-M-D HIS", source: Screenshot, confidence: Name},
	{pattern: "屏幕截图", source: Screenshot, confidence: Name},
	{pattern: "屏幕快照", source: Screenshot, confidence: Name},
	{pattern: "螢幕擷取畫面", source: Screenshot, confidence: Name},
	{pattern: "螢幕截圖", source: Screenshot, confidence: Name},
	{pattern: "スクリーンショット", source: Screenshot, confidence: Name},
	{pattern: "스크린샷", source: Screenshot, confidence: Name},
	{pattern: "bildschirmfoto", source: Screenshot, confidence: Name},
	{pattern: "capture d’écran", source: Screenshot, confidence: Name},
	{pattern: "capture d'écran", source: Screenshot, confidence: Name},
	{pattern: "captura de pantalla", source: Screenshot, confidence: Name},
	{pattern: "captura de tela", source: Screenshot, confidence: Name},
	{pattern: "снимок экрана", source: Screenshot, confidence: Name},
	{pattern: "screenrecorder-Y-M-D-H-I-S", source: Screenshot, confidence: Name},
	{pattern: "screen_recording_YMDPHIS", source: Screenshot, confidence: Name},
	{pattern: "screenrecording_M-D-Y H-I-S", source: Screenshot, confidence: Name},
	{pattern: "screen recording Y-M-D", source: Screenshot, confidence: Name},
	{pattern: "svid_YMD_HIS", source: Screenshot, confidence: Name},
	{pattern: "record_Y-M-D-H-I-S", source: Screenshot, confidence: Name},
	{pattern: "录屏_YMD_HIS", source: Screenshot, confidence: Name},
	{pattern: "屏幕录制PY-M-D H.I.S", source: Screenshot, confidence: Name},
	{pattern: "屏幕录制", source: Screenshot, confidence: Name},
	{pattern: "rpreplay_finalE", source: Screenshot, confidence: Name},
	{pattern: "img_CCCCZ", source: Screenshot, confidence: Guess, ext: screens}, // iPhones number screens like photos

	// Cameras of their own. DCF (JEITA CP-3461) gives them eight characters.
	{pattern: "vid_YMD_HIS_CC_CCC", source: Camera, confidence: Name, ext: panoram},
	{pattern: "dji_YMDHIS_CCCC", source: Camera, confidence: Name},
	{pattern: "dji_CCCC", source: Camera, confidence: Name},
	{pattern: "goprCCCCZ", source: Camera, confidence: Name},
	{pattern: "gpCCCCCCZ", source: Camera, confidence: Name},
	{pattern: "ghCCCCCCZ", source: Camera, confidence: Name},
	{pattern: "gxCCCCCCZ", source: Camera, confidence: Name},
	{pattern: "_mg_CCCCZ", source: Camera, confidence: Name},
	{pattern: "mvi_CCCCZ", source: Camera, confidence: Name},
	{pattern: "_dscCCCCZ", source: Camera, confidence: Name},
	{pattern: "dscfCCCCZ", source: Camera, confidence: Name},
	{pattern: "dscnCCCCZ", source: Camera, confidence: Name},
	{pattern: "dscCCCCCZ", source: Camera, confidence: Name},
	{pattern: "imgpCCCCZ", source: Camera, confidence: Name},
	{pattern: "", source: Camera, confidence: Name, ext: rawFile},
	{pattern: "dsc_CCCCZ", source: Camera, confidence: Guess}, // Nikon, and Sony's phones
	{pattern: "pCCCCCCCZ", source: Camera, confidence: Guess},
	{pattern: "rCCCCCCCZ", source: Camera, confidence: Guess},
	{pattern: "lCCCCCCCZ", source: Camera, confidence: Guess},

	// The camera rolls of phones.
	{pattern: "pxl_YMD_HIS", source: Album, confidence: Name, utc: true},
	{pattern: "imgPYMDPHIS", source: Album, confidence: Name},
	{pattern: "vidPYMDPHIS", source: Album, confidence: Name},
	{pattern: "mvimg_YMD_HIS", source: Album, confidence: Name},
	{pattern: "panoPYMDPHIS", source: Album, confidence: Name},
	{pattern: "CCCCCimg_CCCCC_burstYMDHIS", source: Album, confidence: Name},
	{pattern: "burst_YMDHIS", source: Album, confidence: Name},
	{pattern: "wp_YMD_H_I_S", source: Album, confidence: Name},
	{pattern: "p_YMD_HIS", source: Album, confidence: Name},
	{pattern: "v_YMD_HIS", source: Album, confidence: Name},
	{pattern: "photo_Y-M-D_H-I-S", source: Album, confidence: Guess},
	{pattern: "YMD_HIS", source: Album, confidence: Name}, // Samsung
	{pattern: "Y-M-D H.I.S", source: Album, confidence: Guess},
	{pattern: "img_CCCCZ", source: Album, confidence: Name, ext: apple},
	{pattern: "img_eCCCCZ", source: Album, confidence: Name, ext: apple + still + moving},
	{pattern: "img_CCCCZ", source: Album, confidence: Guess, ext: still + moving + ".dng "},
}

func byName(name string) (string, Confidence) {
	source, confidence := Other, None
	for i := range names {
		r := &names[i]
		if confidence == Guess && r.confidence == Guess {
			continue
		}
		if _, _, ok := r.match(name); ok {
			if r.confidence == Name {
				return r.source, Name
			}
			source, confidence = r.source, r.confidence
		}
	}
	return source, confidence
}

// A folderRule says what lies below a folder, or below folders that follow each
// other. Rules are tried in their order.
type folderRule struct {
	folders    string // divided by /
	source     string
	confidence Confidence
	top        bool // only at the top of what the device has
}

// media are the folders whose children are the albums of a phone: a folder of a
// chat's name is that chat's own there, and may be anything elsewhere. Apps that
// back a phone up put their own folder around them.
var media = map[string]bool{
	"pictures": true, "dcim": true, "movies": true, "video": true, "videos": true, "download": true, "downloads": true, "tencent": true, "albums": true, "photos": true, "instantupload": true, "sofortupload": true,
	"camera uploads": true, "auto upload": true,
	"图片": true, "照片": true, "相册": true, "相簿": true, "视频": true, "下载": true, "自动上传": true,
}

// chats are the names of the folders that chats make among a phone's albums.
var chats = map[string]string{
	"weixin": WeChat, "wechat": WeChat, "微信": WeChat, "weixinwork": WeChat,
	"qq": QQ, "qq_images": QQ, "qq_video": QQ, "mobileqq": QQ, "qq图片": QQ,
	"tim": TIM, "tim_images": TIM,
}

// screenFolders are the names of folders of screenshots and films of the screen.
var screenFolders = map[string]bool{
	"screenshots": true, "screenshot": true, "screen shots": true, "screenrecorder": true, "screen recordings": true,
	"screenrecords": true, "screenrecord": true, "screen recorder": true, "截屏": true, "截图": true, "屏幕截图": true, "截屏录屏": true, "截图和录屏": true,
	"屏幕录制": true, "录屏": true, "螢幕截圖": true, "螢幕擷取畫面": true, "スクリーンショット": true, "스크린샷": true,
	"capturas de pantalla": true, "capturas de tela": true, "captures d’écran": true, "captures d'écran": true, "bildschirmfotos": true, "снимки экрана": true,
}

var folders = []folderRule{
	// WeChat's own folders on phones and desktops.
	{folders: "micromsg", source: WeChat, confidence: Folder},
	{folders: "com.tencent.mm", source: WeChat, confidence: Folder},
	{folders: "wechat files", source: WeChat, confidence: Folder},
	{folders: "xwechat_files", source: WeChat, confidence: Folder},
	{folders: "com.tencent.xinwechat", source: WeChat, confidence: Folder},

	// TIM's and QQ's.
	{folders: "timfile_recv", source: TIM, confidence: Folder},
	{folders: "com.tencent.tim", source: TIM, confidence: Folder},
	{folders: "tim_images", source: TIM, confidence: Folder},
	{folders: "qqfile_recv", source: QQ, confidence: Folder},
	{folders: "qq_images", source: QQ, confidence: Folder},
	{folders: "qq_favorite", source: QQ, confidence: Folder},
	{folders: "qq_collection", source: QQ, confidence: Folder},
	{folders: "qqmailfiles", source: QQ, confidence: Folder},
	{folders: "com.tencent.mobileqq", source: QQ, confidence: Folder},
	{folders: "tencent files", source: QQ, confidence: Folder},
	{folders: "mobileqq/chatpic", source: QQ, confidence: Folder},
	{folders: "mobileqq/shortvideo", source: QQ, confidence: Folder},

	// Cards and sticks of cameras.
	{folders: "private/m4root", source: Camera, confidence: Folder},
	{folders: "private/avchd", source: Camera, confidence: Folder},
	{folders: "private/panasonic", source: Camera, confidence: Folder},
	{folders: "m4root/clip", source: Camera, confidence: Folder},
	{folders: "avchd/bdmv", source: Camera, confidence: Folder},
	{folders: "xdroot/clip", source: Camera, confidence: Folder},
	{folders: "mp_root", source: Camera, confidence: Folder},
	{folders: "dcim/camera01", source: Camera, confidence: Folder},

	// Camera rolls.
	{folders: "dcim/camera", source: Album, confidence: Folder},
	{folders: "dcim/相机", source: Album, confidence: Folder},
	{folders: "camera roll", source: Album, confidence: Folder},
	{folders: "相机胶卷", source: Album, confidence: Folder},
	{folders: "相機膠卷", source: Album, confidence: Folder},
	{folders: "カメラロール", source: Album, confidence: Folder},
	{folders: "camera uploads", source: Album, confidence: Folder},
	{folders: "instantupload", source: Album, confidence: Folder},
	{folders: "sofortupload", source: Album, confidence: Folder},
	{folders: "auto upload", source: Album, confidence: Folder},
	{folders: "自动上传", source: Album, confidence: Folder},
	{folders: "最近项目", source: Album, confidence: Folder},
	{folders: "相机", source: Album, confidence: Folder, top: true},
	{folders: "dcim", source: Album, confidence: Folder},

	// Downloads.
	{folders: "download", source: Download, confidence: Folder, top: true},
	{folders: "downloads", source: Download, confidence: Folder, top: true},
	{folders: "下载", source: Download, confidence: Folder, top: true},
	{folders: "下載", source: Download, confidence: Folder, top: true},
	{folders: "ダウンロード", source: Download, confidence: Folder, top: true},
	{folders: "다운로드", source: Download, confidence: Folder, top: true},
	{folders: "téléchargements", source: Download, confidence: Folder, top: true},
	{folders: "descargas", source: Download, confidence: Folder, top: true},

	// Likely.
	{folders: "camera", source: Album, confidence: Guess},
	{folders: "相机", source: Album, confidence: Guess},
	{folders: "相册", source: Album, confidence: Guess},
	{folders: "download", source: Download, confidence: Guess},
	{folders: "downloads", source: Download, confidence: Guess},
	{folders: "下载", source: Download, confidence: Guess},
	{folders: "tencent", source: QQ, confidence: Guess},
}

// roots are what may stand before the top of a device: how Android calls its
// storage, and where programs put a copy of it.
var roots = map[string]bool{
	"storage": true, "emulated": true, "0": true, "self": true, "primary": true, "sdcard": true, "sdcard0": true, "sdcard1": true, "mnt": true,
	"internal storage": true, "internal shared storage": true, "phone": true, "card": true, "sd card": true,
	"内部存储": true, "内部存储设备": true, "内部共享存储空间": true, "手机存储": true, "home": true, "users": true, "c:": true, "d:": true,
}

// byFolder finds what the folders of a path say. It goes through them once for
// each rule: both are bounded.
func byFolder(parts []string) (string, Confidence) {
	if len(parts) > maxFolders {
		parts = parts[len(parts)-maxFolders:]
	}
	likely, guess := Other, None
	for i, p := range parts { // chats first: their folders lie in those of others
		if s, ok := chatFolder(parts, i); ok {
			return s, Folder
		}
		if s := chats[p]; s != "" {
			likely, guess = s, Guess
		}
	}
	for i, p := range parts {
		if !screenFolders[p] {
			continue
		}
		if i == 0 || media[parts[i-1]] || i > 1 && media[parts[i-2]] || roots[parts[i-1]] {
			return Screenshot, Folder
		}
		if guess == None {
			likely, guess = Screenshot, Guess
		}
	}
	for i, p := range parts {
		if i > 0 && parts[i-1] == "dcim" {
			if s, c := numbered(p); c != None {
				return s, c
			}
		}
	}
	for k := range folders {
		r := &folders[k]
		if guess == Guess && r.confidence == Guess {
			continue
		}
		for i := range parts {
			if follows(parts[i:], r.folders) && (!r.top || isTop(parts[:i])) {
				if r.confidence == Folder {
					return r.source, Folder
				}
				likely, guess = r.source, Guess
				break
			}
		}
	}
	return likely, guess
}

// maxFolders is how many folders above a file are looked at.
const maxFolders = 64

// chatFolder says whether folder i is one that only a chat fills.
func chatFolder(parts []string, i int) (string, bool) {
	for k := range folders {
		if r := &folders[k]; chat(r.source) && r.confidence == Folder && follows(parts[i:], r.folders) {
			return r.source, true
		}
	}
	if s := chats[parts[i]]; s != "" && i > 0 && media[parts[i-1]] {
		return s, true
	}
	if i > 0 && parts[i-1] == "tencent" { // Tencent/QQ…, Tencent/TIM…
		switch {
		case strings.HasPrefix(parts[i], "qq"):
			return QQ, true
		case strings.HasPrefix(parts[i], "tim"):
			return TIM, true
		}
	}
	return "", false
}

// follows says whether parts begin with the folders of a rule.
func follows(parts []string, folders string) bool {
	for i := 0; ; i++ {
		want, rest, more := strings.Cut(folders, "/")
		if i == len(parts) || parts[i] != want {
			return false
		}
		if !more {
			return true
		}
		folders = rest
	}
}

// isTop says whether nothing but a device's own roots stands above. A folder of
// a person's name may stand below home and Users.
func isTop(above []string) bool {
	for i, p := range above {
		if !roots[p] && (i == 0 || above[i-1] != "home" && above[i-1] != "users") {
			return false
		}
	}
	return true
}

// numbered reads a folder below DCIM: three digits and five characters in a
// camera (DCF), with the maker's name; a year and a month in newer iPhones.
func numbered(p string) (string, Confidence) {
	if strings.HasPrefix(p, "dji_") || strings.HasPrefix(p, "dji album") {
		return Camera, Folder
	}
	if digits(p) == 6 && p[6:] == "__" {
		return Album, Folder
	}
	if len(p) != 8 || digits(p) != 3 || p[0] == '0' {
		return Other, None
	}
	switch p[3:] {
	case "apple", "andro", "lgdsc", "sharp", "nokia":
		return Album, Folder // phones
	case "media":
		return Other, None // drones, and phones of one maker
	}
	return Camera, Folder
}
