"""The sixteen rows of the embedded study: the same in five languages, and answers that do and do not fulfil them."""

from pathlib import Path

import pytest

from rmtransfer.alignment.constraints.accuracy import verdicts
from rmtransfer.alignment.constraints.rows import load_constraints

ROWS = Path(__file__).resolve().parents[2] / "resources/sample/constraints"
LANGUAGES = ["en", "es", "it", "ko", "zh"]
# Key to (fulfils, fails), by hand. What fails does so for one reason.
ANSWERS = {
    "en": {
        "c01": ("I love autumn because the air is crisp.", "I love autumn, when the air is crisp."),
        "c02": (
            "<<Night Lamp>>\nThe moon hangs low\nand lights the snow.",
            "Night Lamp\nThe moon hangs low\nand lights the snow.",
        ),
        "c03": ("* apples\n* pears\n* plums", "* apples\n* pears"),
        "c04": ('```json\n{"name": "Italy", "capital": "Rome"}\n```', 'Here: {"name": "Italy", "capital": "Rome"}'),
        "c05": ("My answer is yes.", "Yes, it is."),
        "c06": ("Dear [name], join us on [date]!", "Dear [name], join us on Sunday!"),
        "c07": ("Sleep heals.\n***\nIt sharpens the mind.", "Sleep heals.\n\nIt sharpens the mind."),
        "c08": ("Ash\n******\nSmoky", "Smoky\n******\nSmoky"),
        "c09": ("I dip bread in warm milk.", "I dip bread in warm tea."),
        "c10": ("Soft white flakes that fall without a sound.", "Soft flakes of ice that fall without a sound."),
        "c11": ("My umbrella broke. I need another umbrella.", "My umbrella broke. I got wet."),
        "c12": ("The days grow short. The trees save water.", "Days. Grow. Short. The trees save water for spring."),
        "c13": ("Thank you, Ana!\n\nP.S. The roses bloom.", "Thank you, Ana!\n\nThe roses bloom."),
        "c14": ("*Brush twice a day* and **floss**.", "*Brush twice a day* and floss."),
        "c15": ('"The cheetah."', 'The answer is "the cheetah".'),
        "c16": ("Section 1\nWe swim.\nSection 2\nWe eat. Enjoy the sea!", "Section 1\nWe swim.\nSection 2\nWe eat."),
    },
    "es": {
        "c01": ("Me gusta el otoño porque el aire es fresco.", "Me gusta el otoño, porque el aire es fresco."),
        "c02": (
            "<<Farol>>\nLa luna cae despacio\nsobre el viejo palacio.",
            "La luna cae despacio\nsobre el viejo palacio.",
        ),
        "c03": ("- manzanas\n- peras\n- ciruelas", "manzanas, peras y ciruelas"),
        "c04": ('{"nombre": "Perú", "capital": "Lima"}', "nombre: Perú, capital: Lima"),
        "c05": ("«Mi respuesta es sí».", "Sí, lo es."),
        "c06": ("Hola, [nombre]: te espero el [fecha].", "Hola, [nombre]: te espero el sábado."),
        "c07": ("Dormir cura.\n\n***\n\nDormir aclara la mente.", "Dormir cura. Dormir aclara la mente."),
        "c08": ("Ceniza\n******\nHumo", "Ceniza\n***\nHumo"),
        "c09": ("Mojo el pan en la leche.", "Mojo el pan en el café."),
        "c10": ("Copos blancos que caen sin ruido.", "Copos blancos que caen en invierno."),
        "c11": ("Abrí el paraguas. Era un paraguas rojo.", "Abrí el paraguas. Era rojo."),
        "c12": (
            "Los días se acortan. Los árboles ahorran agua.",
            "The days grow short and the trees save water for spring.",
        ),
        "c13": ("¡Gracias, Ana!\n\nP. D. Las rosas florecen.", "¡Gracias, Ana! Las rosas florecen."),
        "c14": ("*Cepíllate los dientes* y **usa hilo dental**.", "Cepíllate los dientes y *usa hilo dental*."),
        "c15": ("«El guepardo.»", "El guepardo."),
        "c16": (
            "**Sección 1**\nNadamos.\n**Sección 2**\nComemos. ¡A disfrutar del mar!",
            "**Sección 1**\nNadamos y comemos. ¡A disfrutar del mar!",
        ),
    },
    "it": {
        "c01": ("Amo l'autunno perché l'aria è fresca.", "Amo l'autunno, perché l'aria è fresca."),
        "c02": (
            "<<Lume>>\nLa luna sale piano\ne tace il mio divano.",
            "<<>>\nLa luna sale piano\ne tace il mio divano.",
        ),
        "c03": ("* mele\n* pere\n* susine", "1. mele\n2. pere\n3. susine"),
        "c04": ('["Italia", "Roma"]', '"Italia, Roma"'),
        "c05": ("La mia risposta è sì.", "La risposta è sì."),
        "c06": ("Caro [nome], ti aspetto in [luogo].", "Caro [nome], ti aspetto a casa."),
        "c07": (
            "Dormire cura.\n***\nDormire schiarisce la mente.",
            "Dormire cura.\n***\nSchiarisce la mente.\n***\nE riposa.",
        ),
        "c08": ("Cenere\n******\nFumo", "Cenere oppure Fumo"),
        "c09": ("Mangio pane e latte.", "Mangio pane e miele."),
        "c10": ("Fiocchi bianchi che cadono senza rumore.", "Cade in inverno, bianca e leggera."),
        "c11": ("Ho perso l'ombrello. Era un ombrello rosso.", "Ho perso l'ombrello. Era rosso."),
        "c12": (
            "Le giornate si accorciano. Gli alberi risparmiano acqua.",
            "Le giornate sono corte. Fa freddo. Piove. Le foglie cadono.",
        ),
        "c13": ("Grazie, Anna!\n\nP.S. Le rose fioriscono.", "Grazie, Anna!\n\nP.S."),
        "c14": ("*Lavali due volte* e *usa il filo*.", "* Lavali due volte\n* Usa il filo"),
        "c15": ("“Il ghepardo.”", "“Il ghepardo” è il più veloce."),
        "c16": (
            "Sezione 1\nNuotiamo.\nSezione 2\nMangiamo. Buon divertimento al mare!",
            "Sezione 1\nNuotiamo.\nSezione 2\nMangiamo. Buon divertimento al mare! Ciao!",
        ),
    },
    "ko": {
        "c01": ("저는 공기가 맑은 가을을 좋아합니다.", "저는 가을, 특히 시월을 좋아합니다."),
        "c02": ("<<달빛>>\n달이 뜨네\n밤이 깊네", "달빛\n달이 뜨네\n밤이 깊네"),
        "c03": ("* 사과\n* 배\n* 자두", "* 사과\n* 배\n* 자두\n* 감"),
        "c04": ('```\n{"이름": "대한민국", "수도": "서울"}\n```', "이름: 대한민국, 수도: 서울"),
        "c05": ("제 대답은 ‘예’입니다.", "네, 더 큽니다."),
        "c06": ("[이름] 님, [날짜]에 만나요!", "[이름] 님, 토요일에 만나요!"),
        "c07": ("잠은 몸을 회복시킵니다.\n***\n잠은 머리를 맑게 합니다.", "잠은 몸을 회복시킵니다."),
        "c08": ("재\n******\n구름", "재\n구름"),
        "c09": ("저는 우유에 빵을 적셔 먹습니다.", "저는 커피에 빵을 적셔 먹습니다."),
        "c10": ("소리 없이 내리는 하얀 조각입니다.", "겨울에 소리 없이 내리는 하얀 조각입니다."),
        "c11": ("우산을 폈습니다. 빨간 우산이었습니다.", "우산을 폈습니다. 빨간색이었습니다."),
        "c12": (
            "해가 짧아지기 때문입니다. 나무는 물을 아낍니다.",
            "The days grow short and the trees save water for spring.",
        ),
        "c13": ("고맙습니다!\n\n추신: 장미가 피었어요.", "고맙습니다! 장미가 피었어요."),
        "c14": ("*양치질*을 하고 **치실**을 쓰세요.", "양치질을 하고 **치실**을 쓰세요."),
        "c15": ("“치타입니다.”", "‘치타입니다.’"),
        "c16": (
            "1부\n수영을 합니다.\n2부\n밥을 먹습니다. 바다에서 즐거운 시간 보내세요!",
            "1부터 2까지 셉니다. 바다에서 즐거운 시간 보내세요!",
        ),
    },
    "zh": {
        "c01": ("我喜欢秋天。空气很清新。", "我喜欢秋天，空气很清新。"),
        "c02": ("《月光》\n月上柳梢头\n夜静水长流", "我读《月光》\n月上柳梢头"),
        "c03": ("* 苹果\n* 梨\n* 李子", "苹果、梨和李子"),
        "c04": ('```json\n{"国名": "中国", "首都": "北京"}\n```', "{国名：中国，首都：北京}"),
        "c05": ("“我的回答是肯定的。”", "是的，太阳更大。"),
        "c06": ("［姓名］你好！请在【日期】来我家。", "［姓名］你好！请在周六来我家。"),
        "c07": ("睡眠让身体恢复。\n***\n睡眠让头脑清醒。", "睡眠让身体恢复。***睡眠***让头脑清醒。"),
        "c08": ("小灰\n******\n云朵", "小灰\n******"),
        "c09": ("我用面包蘸牛奶吃。", "我用面包蘸豆浆吃。"),
        "c10": ("它是无声落下的白色花瓣。", "它是无声落下的冰花。"),
        "c11": ("我打开雨伞。那是一把红雨伞。", "我打开雨伞。它是红色的。"),
        "c12": ("白天变短了。树木要节约水分。", "白天变短了。天气变冷了。树木要节约水分。所以叶子落了。"),
        "c13": ("谢谢你！\n\n附言：玫瑰开了。", "谢谢你！玫瑰开了。"),
        "c14": ("*早晚刷牙*，并且**使用牙线**。", "早晚刷牙，并且使用牙线。"),
        "c15": ("「猎豹。」", "猎豹。"),
        "c16": (
            "第1部分：我们游泳。\n第二部分：我们吃饭。祝你在海边玩得开心!",
            "上午：我们游泳。\n下午：我们吃饭。祝你在海边玩得开心！",
        ),
    },
}


@pytest.fixture(scope="module")
def rows():
    return {language: load_constraints(ROWS / f"{language}.jsonl", language, LANGUAGES) for language in LANGUAGES}


def test_every_row_is_usable_in_every_language(rows):
    for language in LANGUAGES:
        found, left_out = rows[language]
        assert [row["id"] for row in found] == [f"c{number:02}" for number in range(1, 17)]
        assert left_out.empty
        kinds = [[constraint.id for constraint in row["instructions"]] for row in found]
        assert kinds == [[constraint.id for constraint in row["instructions"]] for row in rows["en"][0]]
    assert len({kind for row in kinds for kind in row}) >= 10


@pytest.mark.parametrize("language", LANGUAGES)
def test_answers_written_by_hand(rows, language):
    for row in rows[language][0]:
        fulfils, fails = ANSWERS[language][row["id"]]
        kinds = [constraint.id for constraint in row["instructions"]]
        assert verdicts(fulfils, row["instructions"], language)[0] == [True] * len(kinds), (row["id"], kinds)
        assert sum(verdicts(fails, row["instructions"], language)[0]) == len(kinds) - 1, (row["id"], kinds)
        for blank in ("", " \n\t\u200b"):
            assert verdicts(blank, row["instructions"], language) == ([False] * len(kinds),) * 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_neither_line_ends_nor_normal_forms_matter(rows, language):
    import unicodedata

    for row in rows[language][0]:
        for text in ANSWERS[language][row["id"]]:
            expected = verdicts(text, row["instructions"], language)
            for form in (text.replace("\n", "\r\n"), unicodedata.normalize("NFD", text), f"\ufeff{text}"):
                assert verdicts(form, row["instructions"], language) == expected, (row["id"], form)
